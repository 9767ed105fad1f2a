"""Trains on your own captures: `python examples/train_on_captures.py DIR [DIR ...] [--steps N]`.

Each DIR holds a camera file and pictures, as `eval.py --capture` takes them. The run goes to
runs/mine/ and resumes from there; `python eval.py --checkpoint runs/mine` reconstructs with it.
As a command: `python train.py configs/quickstart.py --data.source captures
--data.capture-directories DIR DIR --loss.depth 0 --loss.mask 0`.
"""

import argparse

import tttlrm_jax as tj
from tttlrm_jax import config
from tttlrm_jax.training.trainer import train

parser = argparse.ArgumentParser()
parser.add_argument("captures", nargs="+")
parser.add_argument("--steps", type=int, default=2000)
parser.add_argument("--side", type=int, default=64)  # pixels; a multiple of the patch size
parser.add_argument("--width", type=int, default=256)
options = parser.parse_args()

run = config.RunConfig(
    name="mine",
    model=config.ModelConfig(
        d_model=options.width, num_layers=4, patch_size=8, attention_head_dim=16, sh_degree=1
    ),
    data=config.DataConfig(
        source="captures", capture_directories=tuple(options.captures),
        capture_height=options.side, capture_width=options.side,
        num_input_views=4, num_target_views=4, holdout_every=8,  # frames 0, 8, ... for evaluation
    ),
    loss=config.LossConfig(depth=0.0),  # photographs alone; datasets.prepare_depth adds depth
    optimizer=config.OptimizerConfig(peak_lr=4e-4, warmup_steps=min(100, options.steps)),
    train=config.TrainConfig(num_steps=options.steps, batch_size=2, eval_every=500),
)  # fmt: skip
result = train(run)
print(f"{result.directory}: held-out PSNR {result.eval_psnr:.2f} dB")
print(tj.load(result.directory).reconstruct(options.captures[0]).scores())
