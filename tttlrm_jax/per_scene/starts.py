"""What an improvement starts from: views that grow, views held back, part of a prediction."""

import jax
import jax.numpy as jnp
import numpy as np

from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.types import Cameras, Gaussians, Views
from tttlrm_jax.per_scene.density import filled
from tttlrm_jax.per_scene.loop import FitState, scene_extent, start_state
from tttlrm_jax.per_scene.scratch import living
from tttlrm_jax.per_scene.settings import AnytimeConfig, FitConfig, required_degree

Points = tuple[np.ndarray, np.ndarray]  # positions [point, 3] and colours [point, 3] in [0, 1]
FEWEST_VIEWS = 3  # of which one can be held back
MOST_HELD_BACK = 8
WHOLLY = 0.999  # share of a reduced pixel that must show the scene


def rising(views: Views, coarsest: tuple[int, int]) -> list[Views]:
    """The views [view, height, width, 3] at rising resolutions: each side about doubles.

    The first is about as large as `coarsest` (height, width), the last are the views themselves.
    """
    fine = views.image.shape[1:3]
    times = max(0.0, np.log2(fine[0] * fine[1] / (coarsest[0] * coarsest[1])) / 2)
    count = round(times)
    ratio = 2 ** (times / count) if count else 1.0
    return [_reduced(views, ratio**left) for left in range(count, 0, -1)] + [views]


def _reduced(views: Views, factor: float) -> Views:
    cameras = views.cameras
    height, width = (max(1, round(side / factor)) for side in (cameras.height, cameras.width))
    images = jax.image.resize(views.image, (len(views.image), height, width, 3), "linear")
    ratio = jnp.asarray([[width / cameras.width, height / cameras.height] * 2], jnp.float32)
    valid = views.valid
    if valid is not None:  # what all that is mixed into a pixel is
        shares = jax.image.resize(valid.astype(jnp.float32), images.shape[:3], "linear")
        valid = shares > WHOLLY
    return views.replace(
        image=images,
        valid=valid,
        cameras=cameras.replace(intrinsics=cameras.intrinsics * ratio, height=height, width=width),
    )


def split_views(count: int, share: float) -> tuple[np.ndarray, np.ndarray]:
    """(numbers of the views to fit, of those held back), the latter evenly among all.

    None are held back of fewer than three views, or for a share of 0.
    """
    every = np.arange(count)
    if count < FEWEST_VIEWS or share == 0:
        return every, every[:0]
    wanted = min(max(1, round(share * count)), MOST_HELD_BACK, count - 2)
    held = ((np.arange(wanted) + 0.5) * count / wanted).astype(int)
    return np.setdiff1d(every, held), held


def some_of(points: Points, fit: FitConfig) -> Points:
    """At most half as many points as there is room for, drawn at random."""
    count, most = len(points[0]), max(fit.capacity // 2, 1)
    if count <= most:
        return points
    chosen = np.random.default_rng(fit.seed).choice(count, most, replace=False)
    return points[0][chosen], points[1][chosen]


def joined(first: FitState, second: FitState) -> FitState:
    """The Gaussians of both, those of the first before all, as far as the first has slots."""
    room = len(first.alive)
    both = jax.tree.map(lambda a, b: jnp.concatenate([a, b])[:room], living(first), living(second))
    alive = jnp.arange(room) < len(both.mean)
    state = start_state(filled(both, room), 1.0, 0, alive)
    return state.replace(extent=first.extent, num_steps=first.num_steps)


def predicted_state(predicted: Gaussians, views: Views, config: AnytimeConfig) -> FitState:
    """Some of the predicted Gaussians, drawn by their opacity, and free slots up to the capacity.

    Spherical harmonics are cut or filled up to the degree of the fit.
    """
    fit = config.fit
    opacity = np.asarray(jax.nn.sigmoid(predicted.opacity_logit), np.float64)
    usable = np.isfinite(opacity) & (opacity > 0)
    count = min(config.num_kept, fit.capacity, int(usable.sum()))
    if count == 0:
        raise InputError.of(
            "predicted Gaussians", len(opacity), "are all transparent or not finite",
            "start from nothing",
        )  # fmt: skip
    chance = np.where(usable, opacity, 0)
    chosen = np.random.default_rng(fit.seed).choice(
        len(opacity), count, replace=False, p=chance / chance.sum()
    )
    coefficients = (required_degree(fit) + 1) ** 2
    sh = np.zeros((count, coefficients, 3), np.float32)
    known = min(coefficients, predicted.sh.shape[1])
    sh[:, :known] = np.asarray(predicted.sh)[chosen, :known]

    taken = jax.tree.map(lambda x: np.asarray(x, np.float32)[chosen], predicted)
    gaussians = filled(taken.replace(sh=sh), fit.capacity)
    extent = scene_extent(np.asarray(views.cameras.world_from_camera))
    return start_state(gaussians, extent, fit.steps, jnp.arange(fit.capacity) < count)


def widened(gaussians: Gaussians, cameras: Cameras, coarse_height: int, eps2d: float) -> Gaussians:
    """Gaussians that took part of their width from the renderer's blur of coarse pictures.

    That blur, `eps2d` px^2 of pictures of `coarse_height`, becomes their own for `cameras`
    [view, ...] with more pixels, as far as these do not add it: at its distance, in all directions.
    For cameras without more pixels they come back as they are.
    """
    missing = eps2d * ((cameras.height / coarse_height) ** 2 - 1)
    if missing <= 0:
        return gaussians
    pose = np.asarray(cameras.world_from_camera, np.float64)
    focal = np.asarray(cameras.intrinsics, np.float64)[:, 0].mean()
    offset = np.asarray(gaussians.mean, np.float64)[None] - pose[:, None, :3, 3]
    depth = np.einsum("vgi,vi->vg", offset, pose[:, :3, 2])
    distance = np.median(np.maximum(depth, 0), axis=0)
    added = jnp.asarray(0.5 * missing * (distance / focal) ** 2, jnp.float32)[:, None]
    return gaussians.replace(
        log_scale=0.5 * jnp.logaddexp(2 * gaussians.log_scale, jnp.log(added + 1e-30))
    )
