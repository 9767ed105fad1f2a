"""Video depth on Bonn: 110 frames from frame 30 on, five sequences; 50 to 500 for the curve.

Command   python eval.py --protocol configs/ttt3r/bonn_depth.py \\
              --root ROOT --checkpoint CKPT
          (--length 50, 100, ... for the other points of the curve)
"""

from tttlrm_jax.apps.protocols.tables import SequenceProtocol

PROTOCOL = SequenceProtocol(
    dataset="Bonn",
    task="depth",
    kind="tum",
    layout="rgbd_bonn_NAME/ with rgb.txt, depth.txt, groundtruth.txt, rgb/, depth/",
    sequences=(
        "rgbd_bonn_balloon2",
        "rgbd_bonn_crowd2",
        "rgbd_bonn_crowd3",
        "rgbd_bonn_person_tracking2",
        "rgbd_bonn_synchronous",
    ),
    table="TTT3R (arXiv 2509.26645), video depth on short sequences, Bonn, row TTT3R",
    listed={"abs_rel": 0.068},
    fit="resize",
    start=30,
    lengths=(110, 50, 100, 150, 200, 250, 300, 350, 400, 450, 500),
    max_depth=70.0,
)
