"""3D Gaussian Splatting of a capture from nothing, without a model: `tj.fit`."""

from pathlib import Path

import numpy as np

from tttlrm_jax.api.captures import as_capture
from tttlrm_jax.api.reconstruction import Reconstruction
from tttlrm_jax.api.request import Request, candidates_and_targets, improved_resolution
from tttlrm_jax.api.scenes import pose_scene
from tttlrm_jax.captures.capture import Capture
from tttlrm_jax.config import RunConfig
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.per_scene.anytime import Improved, OnMoment, improve
from tttlrm_jax.per_scene.settings import AnytimeConfig, anytime_config
from tttlrm_jax.per_scene.starts import rising
from tttlrm_jax.rasterize.eager import Renderers

COARSEST = (64, 64)  # about as many pixels have the pictures it begins with


def fit(
    capture: Capture | str | Path | None = None,
    views: int | None = None,
    *,
    seconds: float = 30.0,
    steps: int = AnytimeConfig().fit.steps,
    resolution: tuple[int, int] | None = None,
    background: tuple[float, float, float] | None = None,
    max_gaussians: int | None = None,
    memory_limit: float | None = None,
    refine_cameras: bool = False,
    exposure: bool = False,
    on_moment: OnMoment | None = None,
) -> tuple[Reconstruction, Improved]:
    """Fits Gaussians to a capture from nothing (Kerbl et al. 2023) for so many seconds or steps.

    The counterpart of `model.reconstruct(...).refine(seconds=...)` without weights: Gaussians
    start at the capture's triangulated points (COLMAP's, or a PLY that transforms.json names), else
    at random (`record.start`). Compiling is not counted, some of the inputs are held back and say
    which Gaussians were the best so far, Ctrl-C ends it early. Every 8th frame is held out for
    `scores`; inputs are all others, or `views` of them by k-means over camera positions and
    directions.
    `resolution` is height and width, None: the capture's own, at most 512x512 pixels; `background`
    RGB in [0, 1] under transparent pixels, None: white; of pictures without any the colour of their
    plain backdrop, or their mean colour.
    `max_gaussians` bounds their number (None: `AnytimeConfig`'s), and so does `memory_limit` in
    GiB of what fitting takes, by estimate. `refine_cameras` and `exposure` are as in
    `Reconstruction.refine`. Returns the scene and what is known of it.

    Raises InputError for a capture with too few frames, a resolution above the pictures' or below
    7 pixels (SSIM's window), images that cannot be read, seconds of 0 or less, negative steps,
    or a memory limit that leaves room for too few Gaussians.

        scene, record = tj.fit("desk", seconds=60)
        scene.save("desk.ply")
    """
    capture, run = as_capture("sample" if capture is None else capture), RunConfig(name="fit")
    config = anytime_config(
        seconds, steps=steps, max_gaussians=max_gaussians, memory_limit=memory_limit,
        refine_cameras=refine_cameras, exposure=exposure,
    )  # fmt: skip
    request = _request(capture, views, resolution, background, run)
    posed = pose_scene(capture, request, run.data)
    shown = posed.fitted_on(request.background)
    levels = rising(posed.photographs, COARSEST)
    record = improve(
        levels, config, raster=run.raster, background=shown, on_moment=on_moment,
        points=posed.read_points(),
    )  # fmt: skip
    scene = Reconstruction(
        posed=posed, predicted=record.gaussians, made_at=posed.resolution, raster=run.raster,
        background=shown, renderers=Renderers(), seconds=record.seconds,
        compile_seconds=record.compile_seconds,
    )  # fmt: skip
    return scene, record


def _request(
    capture: Capture,
    views: int | None,
    resolution: tuple[int, int] | None,
    background: tuple[float, float, float] | None,
    run: RunConfig,
) -> Request:
    """What `fit` reads: as a model's full plan does, and nothing is pruned."""
    inputs, targets = chosen_frames(capture, views)
    size = improved_resolution(resolution, capture)
    return Request(
        inputs=inputs, targets=targets, resolution=size, shown=size, similarity=None,
        has_scale=True, background=run.data.background if background is None else background,
        background_asked=background is not None,
        plan="full", chunk_views=len(inputs), keep_ratio=1.0, random_ratio=0.0,
        accumulate="append", seed=0,
    )  # fmt: skip


def chosen_frames(capture: Capture, views: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Positions of inputs and targets: every 8th frame is a target. Raises InputError where there
    are not so many inputs, or none."""
    others, targets = candidates_and_targets(capture)
    wanted = len(others) if views is None else views
    if not 1 <= wanted <= len(others):
        raise InputError.of(
            "views", wanted, f"is not in 1..{len(others)}, the frames of {capture.name} beside "
            f"its {len(targets)} targets", "use fewer, or a longer capture",
        )  # fmt: skip
    return (others, targets) if views is None else capture.split(views)
