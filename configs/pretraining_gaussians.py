"""The Gaussian model from the weights of `configs/pretraining_lvsm.py`, to compare with none.

Command   python train.py configs/pretraining_gaussians.py
Controls  python train.py configs/pretraining_gaussians.py --name pretraining_none \\
              --train.init-from None                  as many steps of Gaussians, from scratch
          python train.py configs/pretraining_gaussians.py --name pretraining_none_long \\
              --train.init-from None --train.num-steps 3000     as many steps in total
Time      see docs/experiments/pretraining.md
Result    the comparison is `python -m experiments.pretraining`
"""

import dataclasses
import importlib.util
from pathlib import Path

_spec = importlib.util.spec_from_file_location(
    "pretraining_lvsm", Path(__file__).with_name("pretraining_lvsm.py")
)
assert _spec is not None
assert _spec.loader is not None
_lvsm = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_lvsm)

CONFIG = dataclasses.replace(
    _lvsm.BASE,
    name="pretraining_gaussians",
    data=_lvsm.DATA,
    optimizer=_lvsm.OPTIMIZER,
    train=dataclasses.replace(_lvsm.TRAIN, init_from="runs/pretraining_lvsm"),
)
