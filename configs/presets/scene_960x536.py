"""The published model on captures of 960x536: so many input views over so many devices of 80 GB.

Command   python train.py configs/presets/scene_960x536.py:views=16,devices=16 \\
              --data.capture-directories DIR [DIR ...]
          on every process, see docs/guides/pods.md
Memory    7.5 to 37 GB a device by views and devices, compiled (docs/experiments/many_devices.md)
Result    none: never trained here, for lack of such devices

One scene at a time lies over as many devices as part its views equally (`seq`); devices beyond
that take scenes of their own and a share of the parameters and moments (`fsdp`). Every device draws
one target view, or one band of it. Products are in bfloat16, Gaussians are pruned by the published
shares. The perceptual term is off: it needs weights that the user has to name.
"""

import math

from tttlrm_jax.config import (
    DataConfig,
    LossConfig,
    MeshConfig,
    ModelConfig,
    Remat,
    RunConfig,
    TrainConfig,
    published_ratios,
)
from tttlrm_jax.config.validation import require

NUM_TARGETS = 8  # devices of a scene, at most


def config(
    views: int = 16, devices: int = 16, remat: Remat = "block", height: int = 536, width: int = 960
) -> RunConfig:
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
        data=DataConfig(
            source="captures",
            capture_directories=("captures",),
            capture_height=height,
            capture_width=width,
            num_input_views=views,
            num_target_views=NUM_TARGETS,
        ),
        loss=LossConfig(mse=1.0, opacity=0.01, depth=0.0),
        train=TrainConfig(batch_size=fsdp, keep_ratio=keep_ratio, random_ratio=random_ratio),
        mesh=MeshConfig(seq=seq, fsdp=fsdp),
    )
