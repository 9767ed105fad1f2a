"""Post-optimisation: the Gaussians a model predicted, refined on the views it was given.

Every step renders all input views and moves every parameter once (3D Gaussian Splatting without
densification; table 2 of the paper's supplement takes 3 and 10 such steps).
"""

import dataclasses
import time

import jax
import jax.numpy as jnp
import numpy as np

from tttlrm_jax.config import RasterConfig
from tttlrm_jax.core.types import Gaussians, Views
from tttlrm_jax.per_scene.loop import Schedule, Stepper, room_for, scene_extent, start_state
from tttlrm_jax.per_scene.objective import Photographs, RenderSettings
from tttlrm_jax.per_scene.settings import RefineConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Refined:
    """Gaussians, the loss before each step, and seconds without and for compiling."""

    gaussians: Gaussians
    losses: np.ndarray
    seconds: float
    compile_seconds: float


def photographs(views: Views) -> Photographs:
    """The views of the only scene of a batch."""
    only = jax.tree.map(lambda x: jnp.asarray(x[0]), views)
    return Photographs(only.image, only.cameras.world_from_camera, only.cameras.intrinsics)


def refine(
    gaussians: Gaussians,
    views: Photographs,
    config: RefineConfig,
    *,
    raster: RasterConfig,
    background: tuple[float, float, float],
) -> Refined:
    """Refines the Gaussians of one scene [gaussian]; with 0 steps they come back as they are.

    Views and Gaussians are in one frame, that of the model. Raises InputError for views below 7
    pixels, SSIM's window.
    """
    if config.steps == 0 or gaussians.mean.shape[0] == 0:
        return Refined(
            gaussians=gaussians, losses=np.zeros(0), seconds=0.0, compile_seconds=0.0
        )  # fmt: skip
    count, height, width, _ = views.image.shape
    settings = RenderSettings(
        height=height, width=width, background=background, raster=raster,
        capacity=room_for(gaussians, views, raster), ssim_weight=config.ssim_weight,
    )  # fmt: skip
    extent = scene_extent(np.asarray(views.world_from_camera))
    schedule = Schedule(rates=config.rates, num_steps=config.steps)
    stepper = Stepper(views, schedule, settings)
    start = time.perf_counter()
    order = np.tile(np.arange(count, dtype=np.int32), (config.steps, 1))
    state, losses = stepper(start_state(gaussians, extent), order)
    state = jax.block_until_ready(state)
    return Refined(
        gaussians=state.gaussians,
        losses=losses,
        seconds=time.perf_counter() - start - stepper.compile_seconds,
        compile_seconds=stepper.compile_seconds,
    )
