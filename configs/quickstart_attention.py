"""The quickstart network with softmax attention in place of TTT, as many parameters, to compare.

Command   python train.py configs/quickstart_attention.py
          as long as configs/quickstart.py trains, on the same scenes; then
          python -m benchmarks.quality --attention runs/quickstart_attention \\
              --checkpoint runs/quickstart
Time      not run yet: a comparison needs both runs of equal length
Result    a row "softmax attention" in the table of benchmarks.quality
"""

import dataclasses
from pathlib import Path

from tttlrm_jax.commands.train import load_config_file
from tttlrm_jax.config import RunConfig

BASE = load_config_file(Path(__file__).with_name("quickstart.py"))
assert isinstance(BASE, RunConfig)

CONFIG = dataclasses.replace(
    BASE,
    name="quickstart_attention",
    model=dataclasses.replace(BASE.model, across_views="attention"),
)
