"""Pre-training of a small Gaussian model: the same trunk learns to draw target views as an LVSM.

Command   python train.py configs/pretraining_lvsm.py
          python train.py configs/pretraining_gaussians.py           then starts from its weights
Time      see docs/experiments/pretraining.md
Result    the comparison is `python -m experiments.pretraining`
"""

import dataclasses

from tttlrm_jax.checkpoints.directories import read_config
from tttlrm_jax.config import LossConfig, OptimizerConfig, TrainConfig
from tttlrm_jax.core.files.packaged_files import packaged

SHIPPED = read_config(packaged("quickstart"))
# An LVSM stays at the mean colour for its first hundreds of steps: small, so that it leaves it.
BASE = dataclasses.replace(
    SHIPPED,
    model=dataclasses.replace(
        SHIPPED.model,
        d_model=64,
        num_layers=3,
        log_scale_offset=-3.5,  # a pixel at 32x32
    ),
)
STEPS = 1500

DATA = dataclasses.replace(
    BASE.data,
    synthetic=dataclasses.replace(
        BASE.data.synthetic, num_scenes=2048, num_views=8, height=32, width=32
    ),
    num_input_views=4,
    num_target_views=2,
)
OPTIMIZER = OptimizerConfig(
    peak_lr=8e-4, warmup_steps=100, clip_norm=4.0, skip_norm=20.0, guard_from_step=50
)
TRAIN = TrainConfig(
    num_steps=STEPS, batch_size=8, log_every=10, eval_every=100, eval_scenes=32,
    checkpoint_every=250,
)  # fmt: skip

CONFIG = dataclasses.replace(
    BASE,
    name="pretraining_lvsm",
    # merged output norms, as the Gaussian model's trunk has them
    model=dataclasses.replace(BASE.model, kind="lvsm", output_norm="merged"),
    data=DATA,
    loss=LossConfig(mse=1.0, opacity=0.0, depth=0.0),
    optimizer=OPTIMIZER,
    train=TRAIN,
)
