"""Camera pose on TUM-dynamics, short: 90 frames, every third.

Command   python eval.py --protocol configs/ttt3r/tum_pose_short.py \\
              --root ROOT --checkpoint CKPT
"""

from tttlrm_jax.apps.protocols.tables import SequenceProtocol

PROTOCOL = SequenceProtocol(
    dataset="TUM-dynamics",
    task="pose",
    kind="tum",
    layout="rgbd_dataset_freiburg3_NAME/ with rgb.txt, depth.txt, groundtruth.txt, rgb/, depth/",
    sequences=("rgbd_dataset_freiburg3_sitting_*", "rgbd_dataset_freiburg3_walking_*"),
    table="TTT3R (arXiv 2509.26645), camera pose on short sequences, TUM-dynamics, row TTT3R",
    listed={"rpe_rotation": 0.38},
    stride=3,
    lengths=(90,),
)
