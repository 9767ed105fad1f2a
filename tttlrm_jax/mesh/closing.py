"""Closed surfaces: what is inside where no view says so.

A point is inside if something hides it from half of all cameras or more, and none of the others
(next to none: 0.2 % of the former) sees that it is empty. Every other point is outside, and so is
all beyond the box of the scene. A thing seen only from above is hence as deep as its shadow.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from tttlrm_jax.mesh.extraction import LEAST_WEIGHT, Values
from tttlrm_jax.mesh.fusion import Field, fuse, is_solid, observe
from tttlrm_jax.mesh.grid import BLOCK, BlockGrid, MemoryLimit
from tttlrm_jax.mesh.views import ViewArrays

POINTS_AT_ONCE = 1 << 17
SOLID = np.float32(-0.7)  # not -1: marching cubes cannot decide between 1 and -1 on a face


def open_values(field: Field) -> Values:
    """The field where views know it."""
    return Values(field=field, values=field.values(), known=field.weight > LEAST_WEIGHT)


def closed_values(
    field: Field, views: Sequence[ViewArrays], truncation: float, limit: MemoryLimit
) -> Values:
    """The field with all points decided; blocks in which that changes are fused as well.

    Raises InputError where these do not fit into the limit.
    """
    grid = field.grid
    solid = _solid_corners(grid, views, truncation)
    corners = [
        solid[i : i + grid.shape[0], j : j + grid.shape[1], k : k + grid.shape[2]]
        for i, j, k in np.ndindex(2, 2, 2)
    ]
    most, least = np.maximum.reduce(corners), np.minimum.reduce(corners)
    mixed = grid.numbers(np.argwhere(most & ~least))
    more = np.setdiff1d(mixed, grid.keys)
    limit.check(len(grid.keys) + len(more), grid.voxel)
    field = _with_blocks(field, fuse(dataclasses.replace(grid, keys=more), views, truncation))
    values = np.where(is_solid(field.weight, field.hidden, views), SOLID, field.values())
    elsewhere = np.where(least, SOLID, np.float32(1))
    return Values(field=field, values=values, known=None, elsewhere=elsewhere)


def _solid_corners(grid: BlockGrid, views: Sequence[ViewArrays], truncation: float) -> np.ndarray:
    """Which corners bool [i + 1, j + 1, k + 1] of blocks are inside."""
    shape = tuple(side + 1 for side in grid.shape)
    solid = np.empty(int(np.prod(shape)), bool)
    for start in range(0, len(solid), POINTS_AT_ONCE):
        number = np.arange(start, start + POINTS_AT_ONCE).clip(max=len(solid) - 1)
        points = BLOCK * np.stack(np.unravel_index(number, shape), axis=-1)
        distance, weight, hidden = (np.asarray(x) for x in observe(points, views, truncation))
        inside = is_solid(weight, hidden, views) | (distance < 0)
        solid[start : start + POINTS_AT_ONCE] = inside[: len(solid) - start]
    return solid.reshape(shape)


def _with_blocks(field: Field, more: Field) -> Field:
    """The blocks of two fields of one grid, none of which both have."""
    keys = np.concatenate([field.grid.keys, more.grid.keys])
    order = np.argsort(keys, kind="stable")
    distance, weight, hidden = (
        np.concatenate([getattr(each, name) for each in (field, more)])[order]
        for name in ("distance", "weight", "hidden")
    )
    grid = dataclasses.replace(field.grid, keys=keys[order])
    return Field(grid=grid, distance=distance, weight=weight, hidden=hidden)
