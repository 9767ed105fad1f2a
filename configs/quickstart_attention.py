"""The quickstart network with softmax attention in place of TTT, as many parameters, to compare.

Command   python train.py configs/quickstart_attention.py
Control   python train.py configs/quickstart_attention.py --name quickstart_ttt \\
              --model.across-views ttt
          the quickstart network from nothing, as many steps on the same scenes
Time      46 minutes, the control 58, side by side on one core each, data rendered first (4 minutes)
Result    python -m experiments.quality --attention runs/quickstart_attention \\
              --control runs/quickstart_ttt
          17.55 and 17.64 dB on 32 held-out objects at 8 views; the comparison is in
          docs/experiments/attention.md
"""

import dataclasses
from pathlib import Path

from tttlrm_jax.apps.train import load_config_file
from tttlrm_jax.config import RunConfig

BASE = load_config_file(Path(__file__).with_name("quickstart.py"))
assert isinstance(BASE, RunConfig)

CONFIG = dataclasses.replace(
    BASE,
    name="quickstart_attention",
    model=dataclasses.replace(BASE.model, across_views="attention"),
    data=dataclasses.replace(BASE.data, num_input_views=8),
    train=dataclasses.replace(
        BASE.train, num_steps=1500, view_counts=(4, 8), eval_every=150, eval_scenes=32
    ),
)
