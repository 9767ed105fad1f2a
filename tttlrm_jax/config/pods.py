"""Runs of the published model on whole scenes, 960x536, for so many views and devices.

One scene at a time lies over as many devices as part its views equally (`seq`); devices beyond
that take scenes of their own and a share of the parameters and moments (`fsdp`). Every device draws
one target view, or one band of it: targets are as many as devices of a scene, eight at most.
"""

import dataclasses
import math

from tttlrm_jax.config import (
    DataConfig,
    LossConfig,
    MeshConfig,
    ModelConfig,
    OptimizerConfig,
    Remat,
    RunConfig,
    TrainConfig,
    published_ratios,
)
from tttlrm_jax.core.errors import ConfigError

HEIGHT, WIDTH = 536, 960
NUM_TARGETS = 8


def scene_mesh(num_views: int, num_devices: int) -> MeshConfig:
    """Sizes of the mesh: `seq` the largest common divisor, `fsdp` what is left.

    Raises ConfigError for numbers below 1.
    """
    for field, value in (("num_views", num_views), ("num_devices", num_devices)):
        if value < 1:
            raise ConfigError(f"{field}={value} is below 1; use 1 or more")
    seq = math.gcd(num_views, num_devices)
    return MeshConfig(seq=seq, fsdp=num_devices // seq)


def scene_run(
    num_views: int,
    num_devices: int,
    *,
    remat: Remat = "block",
    model: ModelConfig | None = None,
    height: int = HEIGHT,
    width: int = WIDTH,
    name: str | None = None,
) -> RunConfig:
    """Training on captures of `num_views` input views; products in bfloat16.

    `model` (by default the published one) gets the policy `remat`. Gaussians are pruned by the
    published shares. The perceptual term is off: it needs weights that the user has to name.
    """
    mesh = scene_mesh(num_views, num_devices)
    keep_ratio, random_ratio = published_ratios(num_views)
    model = ModelConfig(compute_dtype="bfloat16") if model is None else model
    return RunConfig(
        name=name or f"scene_{width}x{height}_{num_views}views_{num_devices}devices",
        model=dataclasses.replace(model, remat=remat),
        data=DataConfig(
            source="captures",
            capture_directories=("captures",),
            capture_height=height,
            capture_width=width,
            num_input_views=num_views,
            num_target_views=NUM_TARGETS,
        ),
        loss=LossConfig(mse=1.0, opacity=0.01, depth=0.0),
        optimizer=OptimizerConfig(),
        train=TrainConfig(batch_size=mesh.fsdp, keep_ratio=keep_ratio, random_ratio=random_ratio),
        mesh=mesh,
    )
