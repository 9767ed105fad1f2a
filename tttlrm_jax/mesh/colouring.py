"""Colours of vertices: means over the views that see them."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float
from scipy.spatial import cKDTree

from tttlrm_jax.core.arrays import on_device
from tttlrm_jax.mesh.fusion import look
from tttlrm_jax.mesh.views import ViewArrays

AT_ONCE = 1 << 17  # vertices in one program
NEIGHBOURS = 3  # points whose colours a vertex takes, without views that have colours


def colours_from_views(
    points: np.ndarray, views: Sequence[ViewArrays], truncation: float
) -> np.ndarray | None:
    """Colours uint8 [point, 3] of grid points [point, 3]; None where views have none.

    Views whose depth says that a point is on the surface, within the truncation, weigh as the
    cosine with which they face it. What no view sees is coloured as what is nearest to it.
    """
    if not len(points) or any(group.colour is None for group in views):
        return None
    total = np.concatenate([
        _summed(points[start : start + AT_ONCE], views, truncation)
        for start in range(0, len(points), AT_ONCE)
    ])  # fmt: skip
    seen = total[:, 3] > 0
    if not seen.any():
        return None
    colours = np.zeros((len(points), 3))
    colours[seen] = total[seen, :3] / total[seen, 3:]
    if not seen.all():
        nearest = cKDTree(points[seen]).query(points[~seen])[1]
        colours[~seen] = colours[seen][nearest]
    return np.rint(colours).astype(np.uint8)


def colours_from_points(
    vertices: np.ndarray, points: np.ndarray, colours: np.ndarray
) -> np.ndarray:
    """Colours uint8 [vertex, 3]: means of the nearest of coloured points."""
    count = min(NEIGHBOURS, len(points))
    near = cKDTree(points).query(vertices, count, workers=-1)[1].reshape(len(vertices), count)
    return np.rint(colours[near].mean(axis=1)).astype(np.uint8)


def _summed(points: np.ndarray, views: Sequence[ViewArrays], truncation: float) -> np.ndarray:
    """Sums of weighted colours and of weights, [point, 4]."""
    padded = np.zeros((3, AT_ONCE if len(points) > AT_ONCE // 8 else AT_ONCE // 8), np.float32)
    padded[:, : len(points)] = points.T
    total = jnp.zeros((4, padded.shape[1]), jnp.float32)
    for group in views:
        total = _add(total, on_device(padded), group, np.float32(truncation))
    return np.asarray(total).T[: len(points)]


@jax.jit
def _add(
    total: Float[Array, "4 point"], points: Float[Array, "3 point"], views: ViewArrays, truncation
) -> Float[Array, "4 point"]:
    def add(number, total):
        view = jax.tree.map(lambda x: lax.dynamic_index_in_dim(x, number, 0, False), views)
        spot = look(points, view, truncation)
        weight = jnp.where(spot.surface & (jnp.abs(spot.along) < truncation), spot.facing, 0)
        colour = view.colour[spot.row, spot.column].astype(jnp.float32)
        return total + jnp.stack([*(weight * colour[:, i] for i in range(3)), weight])

    return lax.fori_loop(0, views.nearness.shape[0], add, total)
