"""Camera pose on TUM-dynamics, long: every frame, 50 to 1000 frames.

Command   python eval.py --protocol configs/ttt3r/tum_pose_long.py \\
              --root ROOT --checkpoint CKPT
          (--length 50, 100, ... for the other points of the curve)
"""

from tttlrm_jax.apps.protocols.tables import SequenceProtocol

PROTOCOL = SequenceProtocol(
    dataset="TUM-dynamics",
    task="pose",
    kind="tum",
    layout="rgbd_dataset_freiburg3_NAME/ with rgb.txt, depth.txt, groundtruth.txt, rgb/, depth/",
    sequences=("rgbd_dataset_freiburg3_sitting_*", "rgbd_dataset_freiburg3_walking_*"),
    table="TTT3R (arXiv 2509.26645), camera pose against sequence length, TUM-dynamics (figure)",
    lengths=(1000, 50, 100, 150, 200, 300, 400, 500, 600, 700, 800, 900),
)
