"""Post-optimisation: the Gaussians a model predicted, refined on the views it was given.

Every step renders all input views and moves every parameter once (3D Gaussian Splatting without
densification; table 2 of the paper's supplement takes 3 and 10 such steps).
"""

import time

import jax
import numpy as np

from tttlrm_jax.config import RasterConfig
from tttlrm_jax.core.types import Gaussians, Views
from tttlrm_jax.per_scene.loop import (
    Optimised,
    Schedule,
    Stepper,
    check_one_scene,
    scene_extent,
    start_state,
)
from tttlrm_jax.per_scene.objective import RenderSettings
from tttlrm_jax.per_scene.settings import RefineConfig
from tttlrm_jax.rasterize import fit_capacity


def refine(
    gaussians: Gaussians,
    views: Views,
    config: RefineConfig,
    *,
    raster: RasterConfig,
    background: tuple[float, float, float],
) -> Optimised:
    """Refines the Gaussians of one scene [gaussian]; with 0 steps they come back as they are.

    Views, [view, height, width, 3], and Gaussians are in one frame, that of the model. Raises
    InputError for views of several scenes, or below 7 pixels, SSIM's window.
    """
    check_one_scene(views)
    if config.steps == 0 or gaussians.mean.shape[0] == 0:
        return Optimised(gaussians=gaussians, losses=np.zeros(0), seconds=0.0, compile_seconds=0.0)
    needed = fit_capacity(gaussians.activate(), views.cameras, config=raster)
    settings = RenderSettings(
        background=background, raster=raster, capacity=2 * needed,  # they grow
        ssim_weight=config.ssim_weight,
    )  # fmt: skip
    extent = scene_extent(np.asarray(views.cameras.world_from_camera))
    schedule = Schedule(rates=config.rates)
    stepper = Stepper(views, schedule, settings)
    start = time.perf_counter()
    order = np.tile(np.arange(len(views.image), dtype=np.int32), (config.steps, 1))
    state, losses = stepper(start_state(gaussians, extent, config.steps), order)
    state = jax.block_until_ready(state)
    return Optimised(
        gaussians=state.gaussians,
        losses=losses,
        seconds=time.perf_counter() - start - stepper.compile_seconds,
        compile_seconds=stepper.compile_seconds,
    )
