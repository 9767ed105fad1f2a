"""The published model on captures of 960x536: so many input views over so many devices of 80 GB.

Command   python train.py configs/presets/scene_960x536.py:views=16,devices=16 \\
              --data.capture-directories DIR [DIR ...]
          on every process, see docs/guides/pods.md
Memory    7.5 to 37 GB a device by views and devices, compiled (docs/experiments/many_devices.md)
Result    none: never trained here, for lack of such devices

One scene at a time lies over as many devices as part its views equally (`seq`); devices beyond
that take scenes of their own and a share of the parameters and moments (`fsdp`). Products are in
bfloat16, Gaussians are pruned by the published shares, views are drawn again in the backward pass.
Rate, views and losses are those of the published stage of this size (`paper.py`; `--help` says what
differs), but for the depth term, which needs disparity beside the captures. The perceptual term
looks at whole pictures: of more devices than targets some draw none, and with `perceptual=False`
they draw bands of rows.
"""

import math
from pathlib import Path

from tttlrm_jax.config import (
    DataConfig,
    LossConfig,
    MeshConfig,
    ModelConfig,
    OptimizerConfig,
    RasterConfig,
    Remat,
    RunConfig,
    TrainConfig,
    published_ratios,
)
from tttlrm_jax.config.user_file import run_user_file
from tttlrm_jax.config.validation import require

PAPER = run_user_file(
    Path(__file__).parents[1] / "paper.py", "file", "stating the paper", "it belongs in configs/"
)
DIFFERENCES = PAPER.DIFFERENCES["scene_960x536"]
NUM_TARGETS = 8  # devices of a scene, at most


def config(
    views: int = 16, devices: int = 16, remat: Remat = "block", height: int = 536, width: int = 960,
    perceptual: bool = True,
) -> RunConfig:  # fmt: skip
    """A device holds views / devices of a scene, where that is whole.

    Raises ConfigError for views or devices below 1.
    """
    for field, value in (("views", views), ("devices", devices)):
        require(value >= 1, field, value, "is below 1", "use 1 or more")
    seq = math.gcd(views, devices)
    fsdp = devices // seq
    keep_ratio, random_ratio = published_ratios(views)
    return RunConfig(
        name=f"scene_{width}x{height}_{views}views_{devices}devices",
        model=ModelConfig(compute_dtype="bfloat16", remat=remat),
        raster=RasterConfig(max_alpha=0.999, near=0.1),
        data=DataConfig(
            source="captures",
            capture_directories=("captures",),
            capture_height=height,
            capture_width=width,
            num_input_views=views,
            num_target_views=NUM_TARGETS,
            targets_include_inputs=True,
            holdout_every=32,
            view_selection="range",
            num_pool_views=124 if views <= 124 else None,
            min_frame_range=128 if views <= 124 else 256,
        ),
        loss=LossConfig(
            perceptual=0.5, opacity=0.01, depth=0.0, vgg19_weights="auto"
        ) if perceptual else LossConfig(opacity=0.01, depth=0.0),
        optimizer=OptimizerConfig(
            peak_lr=1e-5, warmup_steps=200, skip_norm=5.0, guard_from_step=200
        ),
        train=TrainConfig(
            num_steps=5000, batch_size=fsdp, keep_ratio=keep_ratio, random_ratio=random_ratio,
            deferred_rendering=True,
        ),
        mesh=MeshConfig(seq=seq, fsdp=fsdp),
    )  # fmt: skip
