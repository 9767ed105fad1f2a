"""3D Gaussian Splatting of one scene from nothing (Kerbl et al. 2023), with fixed room.

One view a step, in an order that is random but shows every view equally often; between segments
of steps the density is controlled and, now and then, opacities are reset. Differences from the
paper: no structure from motion is needed to start, the image is not enlarged step by step,
Gaussians with a large footprint on the screen stay, and SSIM has a uniform window.
"""

import dataclasses
import time

import jax
import jax.numpy as jnp
import numpy as np

from tttlrm_jax.config import RasterConfig
from tttlrm_jax.core.arrays import on_device
from tttlrm_jax.core.geometry.poses import focus_point
from tttlrm_jax.core.geometry.spherical_harmonics import SH_CONSTANT
from tttlrm_jax.core.types import Gaussians, Views
from tttlrm_jax.per_scene.density import densify, filled, reset_opacity
from tttlrm_jax.per_scene.loop import (
    FitState,
    Optimised,
    Stepper,
    check_one_scene,
    scene_extent,
    schedule_of,
    start_state,
)
from tttlrm_jax.per_scene.objective import RenderSettings
from tttlrm_jax.per_scene.settings import FitConfig, required_degree, with_degree

INITIAL_OPACITY = 0.1
INTERSECTIONS_PER_SLOT = 8  # of a view, at the start; grows where it does not suffice
NEAREST = 3  # neighbours whose mean distance is a new Gaussian's size

densify_jit = jax.jit(densify, static_argnames="config")
reset_jit = jax.jit(reset_opacity, static_argnames="config")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fitted(Optimised):
    """Also what density control did; Gaussians are without free slots."""

    num_cloned: int
    num_split: int
    num_pruned: int
    num_refused: int


def fit_scene(
    views: Views,
    config: FitConfig,
    *,
    raster: RasterConfig,
    background: tuple[float, float, float],
    points: tuple[np.ndarray, np.ndarray] | None = None,
) -> Fitted:
    """Fits Gaussians to the views of one scene, [view, height, width, 3].

    `points` are positions [point, 3] and colours [point, 3] to start from (structure from motion);
    without them the start is random, see `random_points`. Seconds are without compiling.
    Raises InputError for views of several scenes.
    """
    check_one_scene(views)
    config = with_degree(config, len(views.image))
    start = time.perf_counter()
    points = random_points(views, config) if points is None else points
    state = initial_state(points, views, config)
    settings = RenderSettings(
        background=background, raster=raster, ssim_weight=config.ssim_weight,
        capacity=INTERSECTIONS_PER_SLOT * config.capacity,
    )  # fmt: skip
    stepper = Stepper(views, schedule_of(config), settings)
    key, losses = jax.random.key(config.seed), []
    counts = dict.fromkeys(("num_cloned", "num_split", "num_pruned", "num_refused"), 0)
    order = view_order(len(views.image), config)
    for first, last in segments(config):
        state, loss = stepper(state, order[first:last])
        losses.append(loss)
        if densifies_at(last, config):
            changed = densify_jit(state, config=config, key=jax.random.fold_in(key, last))
            state = changed.state
            counts = {name: n + int(getattr(changed, name)) for name, n in counts.items()}
        if resets_at(last, config):
            state = reset_jit(state, config=config)
    gaussians = jax.block_until_ready(living(state))
    return Fitted(
        gaussians=gaussians,
        losses=np.concatenate(losses) if losses else np.zeros(0),
        seconds=time.perf_counter() - start - stepper.compile_seconds,
        compile_seconds=stepper.compile_seconds,
        **counts,
    )


def segments(config: FitConfig) -> list[tuple[int, int]]:
    """Steps from and to, between which nothing but steps happens."""
    every = np.gcd(config.densify_every, config.reset_every)
    stops = [*range(int(every), config.steps, int(every)), config.steps]
    return list(zip([0, *stops[:-1]], stops, strict=True)) if config.steps else []


def densifies_at(step: int, config: FitConfig) -> bool:
    """Whether density is controlled after so many steps."""
    within = config.densify_from <= step <= config.densify_until * config.steps
    return within and step % config.densify_every == 0


def resets_at(step: int, config: FitConfig) -> bool:
    """Whether opacities are reset after so many steps: not once there is no pruning any more."""
    return step % config.reset_every == 0 and step < config.densify_until * config.steps


def view_order(num_views: int, config: FitConfig) -> np.ndarray:
    """Views by step, int32 [step, 1]: all in random order, then all again."""
    rng = np.random.default_rng(config.seed)
    rounds = [rng.permutation(num_views) for _ in range(-(-config.steps // num_views))]
    flat = np.concatenate(rounds)[: config.steps] if rounds else np.zeros(0)
    return flat.astype(np.int32)[:, None]


def random_points(views: Views, config: FitConfig) -> tuple[np.ndarray, np.ndarray]:
    """Positions and colours [num_initial, 3]: a ball where the cameras look, coloured by them.

    The ball is as large as the picture at the point of focus. A point's colour is the mean of the
    pixels that show its place; those that no camera sees are grey.
    """
    rng = np.random.default_rng(config.seed)
    poses = np.asarray(views.cameras.world_from_camera, np.float64)
    lenses = np.asarray(views.cameras.intrinsics, np.float64)
    focus = focus_point(poses)
    distance = np.linalg.norm(poses[:, :3, 3] - focus, axis=1)
    height, width = views.image.shape[1:3]
    reach = 0.5 * np.minimum(width / lenses[:, 0], height / lenses[:, 1]) * distance
    direction = rng.normal(size=(config.num_initial, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    radius = float(reach.mean()) * rng.uniform(size=(config.num_initial, 1)) ** (1 / 3)
    points = focus + radius * direction
    images = np.asarray(views.image)
    valid = np.ones(images.shape[:3], bool) if views.valid is None else np.asarray(views.valid)
    return points, _seen_colours(points, images, valid, poses, lenses)


def _seen_colours(points, images, valid, poses, lenses) -> np.ndarray:
    total, count = np.zeros_like(points), np.zeros(len(points))
    height, width = images.shape[1:3]
    for image, shows, pose, (fx, fy, cx, cy) in zip(images, valid, poses, lenses, strict=True):
        x, y, z = ((points - pose[:3, 3]) @ pose[:3, :3]).T
        safe = np.maximum(z, 1e-9)
        column, row = np.floor(fx * x / safe + cx), np.floor(fy * y / safe + cy)
        inside = (z > 1e-6) & (row >= 0) & (row < height) & (column >= 0) & (column < width)
        inside[inside] = shows[row[inside].astype(int), column[inside].astype(int)]
        total[inside] += image[row[inside].astype(int), column[inside].astype(int)]
        count += inside
    return np.where(count[:, None] > 0, total / np.maximum(count, 1)[:, None], 0.5)


def initial_state(
    points: tuple[np.ndarray, np.ndarray], views: Views, config: FitConfig
) -> FitState:
    """Round Gaussians of opacity 0.1 at the points, and free slots up to the capacity."""
    positions, colours = (np.asarray(part, np.float32)[: config.capacity] for part in points)
    count = len(positions)
    size = np.log(np.maximum(neighbour_distance(positions), 1e-7))
    sh = np.zeros((count, (required_degree(config) + 1) ** 2, 3), np.float32)
    sh[:, 0] = (colours - 0.5) / SH_CONSTANT
    logit = np.log(INITIAL_OPACITY / (1 - INITIAL_OPACITY))
    gaussians = Gaussians(
        mean=on_device(positions),
        sh=on_device(sh),
        log_scale=on_device(np.repeat(size[:, None], 3, 1)),
        quaternion=on_device(np.tile(np.asarray([1, 0, 0, 0], np.float32), (count, 1))),
        opacity_logit=on_device(np.full(count, logit, np.float32)),
    )
    gaussians = filled(gaussians, config.capacity)
    extent = scene_extent(np.asarray(views.cameras.world_from_camera))
    return start_state(gaussians, extent, config.steps, jnp.arange(config.capacity) < count)


def neighbour_distance(points: np.ndarray) -> np.ndarray:
    """Mean distance float32 [point] to the three nearest others."""
    from scipy.spatial import cKDTree  # takes a tenth of a second

    wanted = min(NEAREST, len(points) - 1)
    if wanted < 1:
        return np.full(len(points), 0.1, np.float32)
    distance, _ = cKDTree(points).query(points, wanted + 1)  # the first is the point itself
    return distance[:, 1:].mean(axis=1).astype(np.float32)


def living(state: FitState) -> Gaussians:
    """The Gaussians that are alive."""
    alive = np.asarray(state.alive)  # indexing on the device compiles for every number of them
    return jax.tree.map(lambda x: on_device(np.asarray(x)[alive]), state.gaussians)
