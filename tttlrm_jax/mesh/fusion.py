"""Depth views fused into a truncated signed distance field (Curless and Levoy 1996).

Distances are positive outside, in units of the truncation, and means over views. A view's distance
is that to the plane through the surface that it sees (not along the ray), weighed by the cosine
with which this faces it, and by less the farther the point lies behind.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from tttlrm_jax.core.arrays import on_device
from tttlrm_jax.mesh.grid import BLOCK, POINTS, BlockGrid
from tttlrm_jax.mesh.views import ViewArrays

AT_ONCE = 256  # blocks in one program
SAME_SURFACE = 2.0  # truncations by which the depths of neighbours on one surface differ
HIDDEN_FROM = 0.5  # of all views: from so many something hides what counts as inside
HIDDEN_SHARE = (
    0.002  # of the views that something hides a point from, which seeing it must outweigh
)


class Seen(NamedTuple):
    """What views say of points: sums of weighted distances and of weights, and of how many views
    something hides it."""

    distance: Float[Array, " point"]
    weight: Float[Array, " point"]
    hidden: Float[Array, " point"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Field:
    """Sums of `Seen` of the points of every block of a grid, float32 [block, 512]."""

    grid: BlockGrid
    distance: np.ndarray
    weight: np.ndarray
    hidden: np.ndarray

    def values(self) -> np.ndarray:
        """Mean distances float32 [block, 512]; 1 where nothing is known."""
        known = self.weight > 0
        return np.where(known, self.distance / np.where(known, self.weight, 1), 1.0)


def is_solid(weight: np.ndarray, hidden: np.ndarray, views: Sequence[ViewArrays]) -> np.ndarray:
    """Points that something hides from many views, and that next to none sees to be empty."""
    many = HIDDEN_FROM * sum(len(group.intrinsics) for group in views)
    return (hidden >= many) & (weight <= HIDDEN_SHARE * hidden)


def fuse(
    grid: BlockGrid,
    views: Sequence[ViewArrays],
    truncation: float,
    tell: Callable[[int], object] = lambda count: None,
) -> Field:
    """What all views say of the grid's blocks; `tell` is told of blocks as they are done."""
    blocks = grid.corners(grid.keys)
    parts = []
    for start in range(0, len(blocks), AT_ONCE):
        part = blocks[start : start + AT_ONCE]
        padded = np.pad(part, ((0, AT_ONCE - len(part)), (0, 0)), mode="edge")
        seen = observe(BLOCK * padded[:, None] + _block_points(), views, truncation)
        parts.append([np.asarray(each).reshape(AT_ONCE, POINTS)[: len(part)] for each in seen])
        tell(len(part))
    sums = [np.concatenate(each) for each in zip(*parts, strict=True)]
    distance, weight, hidden = sums or [np.empty((0, POINTS), np.float32)] * 3
    return Field(grid=grid, distance=distance, weight=weight, hidden=hidden)


def observe(points: np.ndarray, views: Sequence[ViewArrays], truncation: float) -> Seen:
    """What all views say of grid points [..., 3]."""
    flat = np.ascontiguousarray(points.reshape(-1, 3).T, np.float32)
    seen = Seen(*(jnp.zeros(flat.shape[1], jnp.float32),) * 3)
    for group in views:
        seen = _observe(seen, on_device(flat), group.replace(colour=None), np.float32(truncation))
    return seen


def _block_points() -> np.ndarray:
    """[512, 3], the last axis fastest."""
    return np.stack(np.unravel_index(np.arange(POINTS), (BLOCK,) * 3), axis=-1)


@jax.jit
def _observe(seen: Seen, points: Float[Array, "3 point"], views: ViewArrays, truncation) -> Seen:
    def add(number, seen: Seen) -> Seen:
        view = jax.tree.map(lambda x: lax.dynamic_index_in_dim(x, number, 0, False), views)
        spot = look(points, view, truncation)
        value = jnp.minimum(jnp.where(spot.free, 1, spot.along * spot.facing / truncation), 1)
        known = spot.free | spot.surface
        near = spot.free | (spot.surface & (spot.along > -truncation))
        behind = jnp.clip(spot.along / truncation, -1, 0)
        weight = spot.facing * jnp.where(spot.free, 1, 1 + behind)
        weight = jnp.where(near, weight, 0)
        return Seen(
            seen.distance + weight * value, seen.weight + weight, seen.hidden + (known & ~near)
        )

    return lax.fori_loop(0, views.nearness.shape[0], add, seen)


class Spot(NamedTuple):
    """Where points fall in one view."""

    surface: Bool[Array, " point"]  # the pixel sees a surface
    free: Bool[Array, " point"]  # it sees through everything
    along: Float[Array, " point"]  # the ray to the surface, in voxels; positive in front of it
    facing: Float[Array, " point"]
    row: Int[Array, " point"]
    column: Int[Array, " point"]


def look(points: Float[Array, "3 point"], view: ViewArrays, truncation) -> Spot:
    """Looks points up in one view (no view axis)."""
    height, width = view.nearness.shape
    x, y, z = (
        row[0] * points[0] + row[1] * points[1] + row[2] * points[2] + row[3]
        for row in view.camera_from_grid
    )
    ahead = z > 1e-6
    z = jnp.where(ahead, z, 1)
    u = view.intrinsics[0] * x / z + view.intrinsics[2]
    v = view.intrinsics[1] * y / z + view.intrinsics[3]
    inside = ahead & (u >= 0) & (u < width) & (v >= 0) & (v < height)
    column, row = (
        jnp.clip(jnp.floor(place), 0, most - 1).astype(jnp.int32)
        for place, most in ((u, width), (v, height))
    )
    differ = SAME_SURFACE * truncation
    nearness = _smooth(view.nearness, (u - 0.5, v - 0.5), row, column, differ)
    facing = view.facing[row, column]
    length = jnp.sqrt(x * x + y * y + z * z) / z
    surface = inside & (nearness > 0)
    along = (1 / jnp.where(surface, nearness, 1) - z) * length
    return Spot(surface, inside & (nearness == 0), along, facing, row, column)


def _smooth(nearness: Float[Array, "height width"], place, row, column, differ):
    """Nearness [point] between pixels, linear (exact for planes); that of the nearest pixel where
    the depths of the four `differ` by more."""
    (u, v), (height, width) = place, nearness.shape
    left, top = (
        jnp.clip(jnp.floor(each), 0, max(most - 2, 0)).astype(jnp.int32)
        for each, most in ((u, width), (v, height))
    )
    right, bottom = jnp.minimum(left + 1, width - 1), jnp.minimum(top + 1, height - 1)
    across, down = jnp.clip(u - left, 0, 1), jnp.clip(v - top, 0, 1)
    a, b = nearness[top, left], nearness[top, right]
    c, d = nearness[bottom, left], nearness[bottom, right]
    least = functools.reduce(jnp.minimum, (a, b, c, d))
    most = functools.reduce(jnp.maximum, (a, b, c, d))
    mean = (1 - down) * ((1 - across) * a + across * b) + down * ((1 - across) * c + across * d)
    together = (least > 0) & (most - least < differ * least * most)
    return jnp.where(together, mean, nearness[row, column])
