"""Camera pose on ScanNet, short: 90 frames, every third.

Command   python eval.py --protocol configs/ttt3r/scannet_pose_short.py \\
              --root ROOT --checkpoint CKPT
"""

from tttlrm_jax.apps.protocols.tables import SequenceProtocol

PROTOCOL = SequenceProtocol(
    dataset="ScanNet",
    task="pose",
    kind="scannet",
    layout="sceneNNNN_NN/ with color/N.jpg, depth/N.png, pose/N.txt, intrinsic/intrinsic_color.txt",
    sequences=("scene*_*",),
    table="TTT3R (arXiv 2509.26645), camera pose on short sequences, ScanNet, row TTT3R",
    listed={"ate": 0.064},
    stride=3,
    lengths=(90,),
)
