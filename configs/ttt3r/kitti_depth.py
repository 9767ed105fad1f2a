"""Video depth on the validation drives of KITTI: the first 110 frames; 50 to 500 for the curve.

Command   python eval.py --protocol configs/ttt3r/kitti_depth.py \\
              --root ROOT --checkpoint CKPT
          (--length 50, 100, ... for the other points of the curve)
"""

from tttlrm_jax.apps.protocols.tables import SequenceProtocol

PROTOCOL = SequenceProtocol(
    dataset="KITTI",
    task="depth",
    kind="kitti",
    layout="DRIVE_sync/image_02/data/*.png and DRIVE_sync/proj_depth/groundtruth/image_02/*.png",
    sequences=("*_sync", "*/*_sync"),
    table="TTT3R (arXiv 2509.26645), video depth on short sequences, KITTI, row TTT3R",
    fit="resize",
    lengths=(110, 50, 100, 150, 200, 250, 300, 350, 400, 450, 500),
)
