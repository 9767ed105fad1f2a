"""Camera pose on ScanNet, long: every third frame, 50 to 1000 frames.

Command   python eval.py --protocol configs/ttt3r/scannet_pose_long.py \\
              --root ROOT --checkpoint CKPT
          (--length 50, 100, ... for the other points of the curve)
"""

from tttlrm_jax.apps.protocols.tables import SequenceProtocol

PROTOCOL = SequenceProtocol(
    dataset="ScanNet",
    task="pose",
    kind="scannet",
    layout="sceneNNNN_NN/ with color/N.jpg, depth/N.png, pose/N.txt, intrinsic/intrinsic_color.txt",
    sequences=("scene*_*",),
    table="TTT3R (arXiv 2509.26645), camera pose against sequence length, ScanNet (figure)",
    stride=3,
    lengths=(1000, 50, 100, 150, 200, 300, 400, 500, 600, 700, 800, 900),
)
