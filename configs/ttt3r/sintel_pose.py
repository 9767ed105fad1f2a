"""Camera pose on Sintel, the 14 sequences with a moving camera.

Command   python eval.py --protocol configs/ttt3r/sintel_pose.py \\
              --root ROOT --checkpoint CKPT
"""

from tttlrm_jax.apps.protocols.tables import SequenceProtocol

PROTOCOL = SequenceProtocol(
    dataset="Sintel",
    task="pose",
    kind="sintel",
    layout="training/ with final/SCENE/*.png, depth/SCENE/*.dpt, camdata_left/SCENE/*.cam",
    sequences=(
        "training/final/alley_2",
        "training/final/ambush_4",
        "training/final/ambush_5",
        "training/final/ambush_6",
        "training/final/cave_2",
        "training/final/cave_4",
        "training/final/market_2",
        "training/final/market_5",
        "training/final/market_6",
        "training/final/shaman_3",
        "training/final/sleeping_1",
        "training/final/sleeping_2",
        "training/final/temple_2",
        "training/final/temple_3",
    ),
    table="TTT3R (arXiv 2509.26645), camera pose on short sequences, Sintel, row TTT3R",
    listed={"ate": 0.201},
)
