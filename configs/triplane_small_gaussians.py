"""The Gaussian model of `configs/triplane_small.py`: equal trunk, data, steps and batches.

Command   python train.py configs/triplane_small_gaussians.py
Time      see docs/experiments/triplanes.md
Result    see docs/experiments/triplanes.md
"""

import importlib.util
from pathlib import Path

_spec = importlib.util.spec_from_file_location(
    "triplane_small", Path(__file__).with_name("triplane_small.py")
)
assert _spec is not None
assert _spec.loader is not None
_small = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_small)

CONFIG = _small.GAUSSIANS
