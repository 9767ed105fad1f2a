"""Tanks&Temples with 16, 32 and 64 input views of 960x536: table 2 of tttLRM and its supplement.

Command   python eval.py --protocol configs/tttlrm/tanks_and_temples.py --root ROOT \\
              --checkpoint CKPT
          (--post-optimize 0 3 10 adds rows after so many steps of optimisation; autoregressive
          weights: --plan sequential). Cut at any moment, it goes on with --resume.
Data      ROOT/SCENE/ with a COLMAP model (sparse/0/) and images/, such as `train` and `truck` of
          3D Gaussian splatting; the paper does not say which scenes it measured
Result    not measured here: we have neither the published weights nor the data set

Published numbers are those of arXiv 2602.20160v2: tables 2 and 7.
"""

from tttlrm_jax.apps.protocols.scenes import SceneProtocol, row

PROTOCOL = SceneProtocol(
    dataset="Tanks&Temples",
    kinds=("tttlrm", "lvsm"),
    layout="SCENE/sparse/0/ (COLMAP) and SCENE/images/",
    scenes=("*",),
    views=(16, 32, 64),
    resolution=(536, 960),
    source="tttLRM (arXiv 2602.20160v2), tables 2 and 7, seconds on one A100",
    published=(
        row(16, "3DGS", 780, 16.76, 0.598, 0.334),
        row(16, "Mip-Splatting", 780, 16.82, 0.616, 0.332),
        row(16, "Scaffold-GS", 960, 17.02, 0.634, 0.321),
        row(16, "Long-LRM", 0.4, 17.51, 0.555, 0.408),
        row(16, "tttLRM", 3.6, 18.15, 0.613, 0.360),
        row(32, "3DGS", 780, 18.10, 0.688, 0.269),
        row(32, "Mip-Splatting", 780, 18.39, 0.700, 0.262),
        row(32, "Scaffold-GS", 960, 18.41, 0.691, 0.290),
        row(32, "Long-LRM", 1, 18.38, 0.601, 0.363),
        row(32, "Long-LRM", 12, 18.69, 0.623, 0.360, "+3 steps"),
        row(32, "Long-LRM", 37, 18.90, 0.642, 0.350, "+10 steps"),
        row(32, "tttLRM", 7.5, 18.96, 0.653, 0.322, "AR"),
        row(32, "tttLRM", 7.2, 19.22, 0.662, 0.305),
        row(32, "tttLRM", 18, 19.57, 0.687, 0.300, "+3 steps"),
        row(32, "tttLRM", 42, 19.78, 0.704, 0.291, "+10 steps"),
        row(64, "3DGS", 780, 20.78, 0.778, 0.205),
        row(64, "Mip-Splatting", 780, 20.08, 0.759, 0.220),
        row(64, "Scaffold-GS", 960, 20.96, 0.768, 0.240),
        row(64, "Long-LRM", 3.7, 19.11, 0.627, 0.346),
        row(64, "Long-LRM", 38.9, 19.69, 0.659, 0.333, "+3 steps"),
        row(64, "Long-LRM", 114, 20.03, 0.681, 0.320, "+10 steps"),
        row(64, "tttLRM", 15.2, 19.80, 0.675, 0.308, "AR"),
        row(64, "tttLRM", 14.8, 20.31, 0.700, 0.274),
        row(64, "tttLRM", 47, 20.76, 0.724, 0.269, "+3 steps"),
        row(64, "tttLRM", 124, 21.07, 0.743, 0.260, "+10 steps"),
    ),
    differs=(
        "published rows are of Gaussians; we have none of LaCT's view synthesis (lvsm)",
        "the paper does not say which scenes it measured, nor how it chose their inputs and "
        "targets: here as in DL3DV-140, every 8th frame and k-means",
        "pictures of other proportions are fitted as the checkpoint says (--fit)",
        "the paper does not say which network its LPIPS has",
    ),
)
