"""Depth views of Gaussians: cameras around them, and what these see."""

import dataclasses
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from tttlrm_jax.config import RasterConfig
from tttlrm_jax.config.surfaces import SurfaceConfig
from tttlrm_jax.core.arrays import on_device
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.geometry.poses import PoseNormalisation, look_at
from tttlrm_jax.core.pictures import to_uint8
from tttlrm_jax.core.types import Cameras, Gaussians
from tttlrm_jax.mesh.views import DepthView
from tttlrm_jax.rasterize import expected_depth, fit_capacity, render
from tttlrm_jax.rasterize.median import median_depth
from tttlrm_jax.rasterize.render import GSPLAT

FIELD_OF_VIEW = 40.0  # degrees, of cameras around a scene
OUTLYING = 0.02  # share of the opacity that may lie outside of the ball of the scene
WIDER = 1.1  # that ball, times
FAINT = 0.05  # opacity below which a Gaussian does not say where the scene is
HALF = 0.5  # of the light that a surface stops


def frame_of(gaussians: Gaussians) -> PoseNormalisation:
    """To the frame in which the scene is the unit ball around the origin, without outliers.

    Middle and radius are of Gaussians that are not faint, weighed by opacity. Raises InputError
    where there are none.
    """
    mean = np.asarray(gaussians.mean, np.float64)
    opacity = np.asarray(jax.nn.sigmoid(gaussians.opacity_logit), np.float64)
    used = (opacity >= FAINT) & np.isfinite(mean).all(axis=1)
    if not used.any():
        raise InputError.of(
            "scene", f"{len(mean)} Gaussians", f"has none with an opacity of {FAINT} or more",
            "give another",
        )  # fmt: skip
    mean, opacity = mean[used], opacity[used]
    middle = np.array([_quantile(values, opacity, 0.5) for values in mean.T])
    away = np.linalg.norm(mean - middle, axis=1)
    radius = WIDER * _quantile(away, opacity, 1 - OUTLYING)
    if not radius > 0:
        radius = WIDER * float(np.exp(np.asarray(gaussians.log_scale)[used]).max()) or 1.0
    return PoseNormalisation(rotation=np.eye(3), translation=-middle / radius, scale=1.0 / radius)


def sphere_cameras(count: int, size: int) -> Cameras:
    """Cameras [count] all around the unit ball, which fills their square pictures."""
    number = np.arange(count) + 0.5
    height = 1 - 2 * number / count
    turn = np.pi * (1 + np.sqrt(5)) * number  # Fibonacci's lattice
    across = np.sqrt(1 - height**2)
    direction = np.stack([across * np.cos(turn), across * np.sin(turn), height], axis=-1)
    half = np.radians(0.5 * FIELD_OF_VIEW)
    poses = look_at(direction / np.sin(half), np.zeros(3), np.array([0.0, 0.0, 1.0]))
    focal = 0.5 * size / np.tan(half)
    lenses = np.tile([focal, focal, 0.5 * size, 0.5 * size], (count, 1))
    return Cameras(poses, lenses, size, size)  # type: ignore[arg-type]


def resized(cameras: Cameras, longer_side: int) -> Cameras:
    """The same cameras [view] with pictures of another size, in their aspect."""
    factor = longer_side / max(cameras.height, cameras.width)
    height, width = (max(1, round(factor * side)) for side in (cameras.height, cameras.width))
    factors = np.array([width / cameras.width, height / cameras.height] * 2)
    lenses = np.asarray(cameras.intrinsics, np.float64) * factors
    return Cameras(cameras.world_from_camera, lenses, height, width)  # type: ignore[arg-type]


def evenly(cameras: Cameras, most: int) -> Cameras:
    """At most so many of cameras [view], evenly in their order."""
    count = len(cameras.world_from_camera)
    chosen = np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(int))
    return jax.tree.map(lambda x: np.asarray(x)[chosen], cameras)


def rendered_views(
    gaussians: Gaussians,
    cameras: Cameras,
    config: SurfaceConfig,
    raster: RasterConfig = GSPLAT,
    tell: Callable[[], object] = lambda: None,
) -> list[DepthView]:
    """What cameras [view] see of Gaussians; `tell` is called after each.

    A ray meets a surface where Gaussians stop half of its light; others meet nothing.
    """
    views = []
    for view in _drawn(gaussians, cameras, config, raster):
        views.append(view)
        tell()
    return views


def _drawn(gaussians, cameras: Cameras, config: SurfaceConfig, raster) -> Iterator[DepthView]:
    splats = gaussians.activate()
    on_host = jax.tree.map(lambda x: np.asarray(x, np.float64), cameras)
    near = jax.tree.map(lambda x: on_device(x, np.float32), on_host)
    capacity = fit_capacity(splats, near, config=raster)

    @jax.jit
    def draw(splats, camera):
        drawn = render(splats, camera, config=raster, capacity=capacity)
        if config.depth == "median":
            depth = median_depth(splats, camera, config=raster, capacity=capacity)
        else:
            depth = expected_depth(drawn)
        met = (drawn.alpha >= HALF) & (depth > 0)
        # without background, which is no part of the surface
        colour = drawn.rgb / jnp.maximum(drawn.alpha, HALF)[..., None]
        return jnp.where(met, depth, jnp.inf), colour

    for number in range(len(on_host.world_from_camera)):
        one = jax.tree.map(lambda x, number=number: on_device(np.asarray(x)[number]), near)
        depth, colour = draw(splats, one)
        yield DepthView(
            depth=np.asarray(depth), colour=to_uint8(np.asarray(colour)),
            world_from_camera=on_host.world_from_camera[number],
            intrinsics=on_host.intrinsics[number],
        )  # fmt: skip


def softened(raster: RasterConfig, made_at: tuple[int, int], cameras: Cameras) -> RasterConfig:
    """Settings under which Gaussians that were made for pictures of some size (height, width) have
    no gaps in larger ones: the blur on the screen grows with their area."""
    grown = max(1.0, cameras.height * cameras.width / (made_at[0] * made_at[1]))
    return dataclasses.replace(raster, eps2d=raster.eps2d * grown)


def _quantile(values: np.ndarray, weights: np.ndarray, share: float) -> float:
    """The value below which so large a share of the weight lies."""
    order = np.argsort(values)
    running = np.cumsum(weights[order])
    return float(values[order[np.searchsorted(running, share * running[-1])]])
