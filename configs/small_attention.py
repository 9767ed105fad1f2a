"""A small Gaussian model with softmax attention in place of TTT, as many parameters, to compare.

Command   python train.py configs/small_attention.py
Control   python train.py configs/pretraining_gaussians.py --name small_ttt --train.init-from None
          the same network with TTT, as many steps on the same scenes
Time      see docs/experiments/attention.md
Result    python -m experiments.quality --checkpoint runs/small_ttt \\
              --attention runs/small_attention --control runs/small_ttt
"""

import dataclasses
from pathlib import Path

from tttlrm_jax.apps.train import load_config_file
from tttlrm_jax.config import RunConfig

BASE = load_config_file(Path(__file__).with_name("pretraining_gaussians.py"))
assert isinstance(BASE, RunConfig)

CONFIG = dataclasses.replace(
    BASE,
    name="small_attention",
    model=dataclasses.replace(BASE.model, across_views="attention"),
    train=dataclasses.replace(BASE.train, init_from=None),
)
