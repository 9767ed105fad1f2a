"""Reconstruction on the test sequences of 7-Scenes: every second frame, the first 50 to 400.

Command   python eval.py --protocol configs/ttt3r/seven_scenes_reconstruction.py \\
              --root ROOT --checkpoint CKPT
          (--length 50, 100, ... for the other points of the curve)
"""

from tttlrm_jax.apps.protocols.tables import SequenceProtocol

PROTOCOL = SequenceProtocol(
    dataset="7-Scenes",
    task="reconstruction",
    kind="seven_scenes",
    layout="SCENE/seq-NN/frame-NNNNNN.color.png, .depth.png (registered), .pose.txt",
    sequences=(
        "chess/seq-03",
        "chess/seq-05",
        "fire/seq-03",
        "fire/seq-04",
        "heads/seq-01",
        "office/seq-02",
        "office/seq-06",
        "office/seq-07",
        "office/seq-09",
        "pumpkin/seq-01",
        "pumpkin/seq-07",
        "redkitchen/seq-03",
        "redkitchen/seq-04",
        "redkitchen/seq-06",
        "redkitchen/seq-12",
        "redkitchen/seq-14",
        "stairs/seq-01",
        "stairs/seq-04",
    ),
    table="TTT3R (arXiv 2509.26645), 3D reconstruction against sequence length, 7-Scenes (figure)",
    behaviour="batch",
    stride=2,
    lengths=(400, 50, 100, 150, 200, 250, 300, 350),
)
