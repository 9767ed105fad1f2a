"""The quickstart network with softmax attention in place of TTT, as many parameters, to compare.

Command   python train.py configs/quickstart_attention.py
          as long as configs/quickstart.py trains, on the same scenes; then
          python -m benchmarks.quality --attention runs/quickstart_attention \\
              --checkpoint runs/quickstart
Time      not run yet: a comparison needs both runs of equal length
Result    a row "softmax attention" in the table of benchmarks.quality
"""

import dataclasses
import importlib.util
from pathlib import Path

_spec = importlib.util.spec_from_file_location(
    "quickstart", Path(__file__).with_name("quickstart.py")
)
assert _spec is not None
assert _spec.loader is not None
_quickstart = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_quickstart)
BASE = _quickstart.CONFIG

CONFIG = dataclasses.replace(
    BASE,
    name="quickstart_attention",
    model=dataclasses.replace(BASE.model, across_views="attention"),
)
