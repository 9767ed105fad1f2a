"""Objects of Google Scanned Objects with 8, 16 and 24 input views: table 1 of tttLRM.

Command   python eval.py --protocol configs/tttlrm/gso.py --root ROOT --checkpoint CKPT
          (--resolution 256 256 or 1024 1024 for the other sizes). Cut at any moment, it goes on
          with --resume. Rows with 10 virtual views: --views 16 24 --virtual-views 10.
Data      ROOT/OBJECT/opencv_cameras.json with renderings on transparent ground
Result    not measured here: we do not have the published weights

Published numbers are those of arXiv 2602.20160v2, table 1. It has no row at 1024x1024 (only
pictures are shown: GS-LRM ran out of memory), and 256x256 with 8 views only.
"""

from tttlrm_jax.apps.protocols.scenes import SceneProtocol, row


def square(side, *columns):
    """A row for pictures of `side` x `side` pixels."""
    return row(*columns, resolution=(side, side))


PROTOCOL = SceneProtocol(
    dataset="GSO",
    kinds=("tttlrm", "lvsm"),
    layout="OBJECT/opencv_cameras.json with its renderings",
    scenes=("*",),
    num_scenes=100,
    views=(8, 16, 24),
    resolution=(512, 512),
    source="tttLRM (arXiv 2602.20160v2), table 1",
    published=(
        square(256, 8, "GS-LRM", 0.1, 31.55, 0.964, 0.028),
        square(256, 8, "tttLRM", 0.1, 33.14, 0.972, 0.024),
        square(512, 8, "GS-LRM", 0.7, 32.83, 0.969, 0.029),
        square(512, 8, "tttLRM", 0.3, 34.02, 0.974, 0.025),
        square(512, 16, "GS-LRM", 2.5, 33.55, 0.976, 0.023),
        square(512, 16, "tttLRM", 0.8, 34.67, 0.978, 0.022, "10 virtual views"),
        square(512, 24, "GS-LRM", 5.5, 33.26, 0.976, 0.022),
        square(512, 24, "tttLRM", 1.1, 34.80, 0.979, 0.022, "10 virtual views"),
        square(1024, 8, "tttLRM", None, None, None, None),
    ),
    differs=(
        "published rows are of Gaussians; we have none of LaCT's view synthesis (lvsm)",
        "the paper's 100 objects, its inputs and its 8 random test views are not published: every "
        "8th frame is a target here, inputs are those of the file or k-means over the others",
        "the paper does not say which network its LPIPS has, nor the device of table 1",
    ),
)
