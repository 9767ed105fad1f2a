"""Video depth on Sintel.

Which sequences the published row averages is not stated in the specification this was written
from; all of `final` are taken.

Command   python eval.py --protocol configs/ttt3r/sintel_depth.py \\
              --root ROOT --checkpoint CKPT
"""

from tttlrm_jax.apps.protocols.tables import SequenceProtocol

PROTOCOL = SequenceProtocol(
    dataset="Sintel",
    task="depth",
    kind="sintel",
    layout="training/ with final/SCENE/*.png, depth/SCENE/*.dpt, camdata_left/SCENE/*.cam",
    sequences=("training/final/*",),
    table="TTT3R (arXiv 2509.26645), video depth on short sequences, Sintel, row TTT3R",
    listed={"delta_125": 0.50},
    fit="resize",
    max_depth=70.0,
    clip_depth=70.0,
)
