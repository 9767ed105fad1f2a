"""The surface of a distance field: marching cubes (Lewiner et al. 2003) over bricks of 64 voxels.

Bricks share the points of their faces. A vertex on a face is known by the edge of the grid that it
lies on, whatever brick it comes from, so that the surface has no seams. A cell whose corners are
not all known makes no triangles.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from tttlrm_jax.core.errors import InputError, first_line
from tttlrm_jax.mesh.fusion import Field
from tttlrm_jax.mesh.grid import BLOCK, POINTS

EDGE = 8  # blocks along a brick
BRICK = EDGE * BLOCK
CLEAR = 1e-3  # least |value|: vertices keep so far from the corners of their cells
ON_POINT = 1e-4  # of a cell's side: within it a coordinate counts as an integer; rounding is less
LEAST_WEIGHT = 1e-3  # of a point that counts as known


@dataclasses.dataclass(frozen=True, kw_only=True)
class Values:
    """Field values, and of blocks that are not kept one value each. `None` for those: unknown."""

    field: Field
    values: np.ndarray  # float32 [block, 512]
    known: np.ndarray | None  # bool [block, 512]; None: all are, the surface is closed
    # float32 [i, j, k] of the blocks of the box, with `known` None
    elsewhere: np.ndarray | None = None


def needs_extra(name: str) -> Any:
    """A module of the extra `mesh`. Raises InputError where it is not installed."""
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(
            f'meshes need {name} ({first_line(error)}); pip install "tttlrm-jax[mesh]"'
        ) from None


def check_extra(simplifying: bool = False) -> None:
    """Raises InputError where a part of the extra `mesh` is not installed, before any work."""
    for name in ("skimage.measure", "trimesh", *["fast_simplification"] * simplifying):
        needs_extra(name)


def extract(values: Values) -> tuple[np.ndarray, np.ndarray]:
    """Vertices float64 [vertex, 3] in grid coordinates and faces int64 [face, 3], counter-clockwise
    seen from outside. Empty where the field has no surface."""
    measure = needs_extra("skimage.measure")
    vertices, faces, shared, count = [], [], [], 0
    for corner, dense, known in _bricks(values):
        if dense.min() > 0 or dense.max() < 0:
            continue
        local, triangles, _, _ = measure.marching_cubes(dense, 0.0, gradient_direction="descent")
        local = local.astype(np.float64)
        if known is not None:
            triangles = triangles[_in_known_cell(local, triangles, known)]
        border = np.flatnonzero(((local < ON_POINT) | (local > BRICK - ON_POINT)).any(axis=1))
        vertices.append(local + corner)
        faces.append(triangles.astype(np.int64) + count)
        shared.append(border + count)
        count += len(local)
    if not faces:
        return np.empty((0, 3)), np.empty((0, 3), np.int64)
    return _joined(np.concatenate(vertices), np.concatenate(faces), np.concatenate(shared))


def _bricks(values: Values) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray | None]]:
    """(first point, values [65, 65, 65], which are known) of bricks that may hold a surface."""
    grid = values.field.grid
    counts = [-(-side // EDGE) for side in grid.shape]
    if values.elsewhere is None:
        blocks = grid.corners(grid.keys)
        # a cell belongs to the brick of its first corner, which may be the block before
        before = np.unique(np.concatenate([blocks, *(blocks - step for step in _STEPS)]) // EDGE,
                           axis=0)  # fmt: skip
        bricks = before[(before >= 0).all(axis=1)]
    else:
        bricks = np.stack(np.unravel_index(np.arange(np.prod(counts)), counts), axis=-1)
    for brick in bricks:
        yield brick * BRICK, *_dense(values, brick * EDGE)


_STEPS = np.stack(np.unravel_index(np.arange(1, 8), (2, 2, 2)), axis=-1)


def _dense(values: Values, first: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Values of the points of a brick and of one more along each axis; outside of the box 1."""
    grid, side = values.field.grid, EDGE + 1
    offsets = np.stack(np.unravel_index(np.arange(side**3), (side,) * 3), axis=-1)
    blocks = first + offsets
    inside = grid.inside(blocks)
    place = np.where(inside, grid.places(grid.numbers(blocks)), -1)
    kept = place >= 0
    dense = np.ones((side**3, POINTS), np.float32)
    if values.elsewhere is not None:
        constant = inside & ~kept
        dense[constant] = values.elsewhere[tuple(blocks[constant].T)][:, None]
    dense[kept] = values.values[place[kept]]
    known = None
    if values.known is not None:
        known = np.zeros((side**3, POINTS), bool)
        known[kept] = values.known[place[kept]]
        known = _as_cube(known, side)
    dense = _as_cube(dense, side)
    dense = np.where(np.abs(dense) < CLEAR, np.where(dense < 0, -CLEAR, CLEAR), dense)
    if values.known is None:
        _close(dense, first * BLOCK, BLOCK * np.array(grid.shape) - 1)
    return dense.astype(np.float32), known


def _as_cube(blocks: np.ndarray, side: int) -> np.ndarray:
    """[block, 512] to the points [65, 65, 65] of a brick and its faces."""
    cube = blocks.reshape((side,) * 3 + (BLOCK,) * 3).transpose(0, 3, 1, 4, 2, 5)
    return cube.reshape((side * BLOCK,) * 3)[: BRICK + 1, : BRICK + 1, : BRICK + 1]


def _close(dense: np.ndarray, first: np.ndarray, last: np.ndarray) -> None:
    """Makes the outermost points of the box empty."""
    for axis in range(3):
        place = np.arange(dense.shape[axis]) + first[axis]
        outermost = (place <= 0) | (place >= last[axis])
        np.moveaxis(dense, axis, 0)[outermost] = 1.0


def _in_known_cell(local: np.ndarray, triangles: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Which triangles lie in cells whose eight corners are known."""
    cells = known[:-1, :-1, :-1].copy()
    for i, j, k in _STEPS:
        cells &= known[i : i + BRICK, j : j + BRICK, k : k + BRICK]
    middle = np.floor(local[triangles].mean(axis=1)).astype(np.int64).clip(0, BRICK - 1)
    return cells[tuple(middle.T)]


def _joined(vertices, faces, shared) -> tuple[np.ndarray, np.ndarray]:
    """One vertex for each edge of the grid; vertices that no face uses are left out."""
    keys = _edges(vertices[shared])
    _, first, which = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    target = np.arange(len(vertices))
    target[shared] = shared[first[which.reshape(-1)]]
    faces = target[faces]
    used, faces = np.unique(faces, return_inverse=True)
    return vertices[used], faces.reshape(-1, 3)


def _edges(vertices: np.ndarray) -> np.ndarray:
    """Edges int64 [vertex, 4]: the lower end and the axis of the edge that each vertex lies on."""
    nearest = np.rint(vertices)
    axis = np.abs(vertices - nearest).argmax(axis=1)
    lower = nearest.astype(np.int64)
    rows = np.arange(len(vertices))
    lower[rows, axis] = np.floor(vertices[rows, axis]).astype(np.int64)
    return np.concatenate([lower, axis[:, None]], axis=1)
