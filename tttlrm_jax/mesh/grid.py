"""Where voxels are: a box around the surface, and the blocks of 8x8x8 of them that are kept.

Grid points have integer coordinates; point 0 lies at `origin` in the scene, points are `voxel`
apart. Block (i, j, k) holds the points from 8 (i, j, k) on; blocks are known by one number each.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tttlrm_jax.config.surfaces import DEFAULT_RESOLUTION, SurfaceConfig
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.mesh.views import BYTES_PER_PIXEL, DepthView

BLOCK = 8  # points along a side
POINTS = BLOCK**3
BYTES_PER_POINT = 12  # sums of distances and weights, and how often something hid it
BOX_POINTS = 400_000  # of depth, that say where the scene is
OUTLIERS = 0.5  # per cent, on either side of an axis
SLACK = 0.1  # of a side, by which the box of all others is widened for what is no outlier
LITTLE = 1e-4  # share of the depth that is left out in silence
MOST_BLOCKS = 2**20  # along a side: numbers of blocks fit 64 bits
CELLS_AT_ONCE = 200_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class BlockGrid:
    """Blocks of voxels in a box; `keys` int64 [block] ascending are those that are kept."""

    origin: np.ndarray  # float64 [3]
    voxel: float
    shape: tuple[int, int, int]  # blocks along the axes
    keys: np.ndarray

    def corners(self, keys: np.ndarray) -> np.ndarray:
        """Blocks int64 [block, 3] of their numbers."""
        _, across, deep = self.shape
        return np.stack([keys // (across * deep), keys // deep % across, keys % deep], axis=-1)

    def numbers(self, blocks: np.ndarray) -> np.ndarray:
        """Numbers of blocks [..., 3] within the box."""
        _, across, deep = self.shape
        return (blocks[..., 0] * across + blocks[..., 1]) * deep + blocks[..., 2]

    def places(self, numbers: np.ndarray) -> np.ndarray:
        """Positions in `keys`, -1 for blocks that are not kept."""
        if not len(self.keys):
            return np.full(numbers.shape, -1)
        found = np.searchsorted(self.keys, numbers).clip(max=len(self.keys) - 1)
        return np.where(self.keys[found] == numbers, found, -1)

    def inside(self, blocks: np.ndarray) -> np.ndarray:
        """Which blocks [..., 3] lie in the box."""
        return np.all((blocks >= 0) & (blocks < self.shape), axis=-1)

    def to_scene(self, points: np.ndarray) -> np.ndarray:
        """Positions in the scene float64 of grid coordinates [..., 3]."""
        return self.origin + self.voxel * np.asarray(points, np.float64)


@dataclasses.dataclass(frozen=True)
class MemoryLimit:
    """GiB that voxels and views may take, by estimate."""

    gibibytes: float
    taken: int = 0  # bytes of views

    @classmethod
    def of(cls, config: SurfaceConfig, views: Sequence[DepthView]) -> "MemoryLimit":
        return cls(config.memory_limit, BYTES_PER_PIXEL * sum(view.depth.size for view in views))

    def check_views(self) -> None:
        """Raises InputError where the depth alone does not fit."""
        if self.taken > self.gibibytes * 2**30:
            raise InputError.of(
                "memory_limit", f"{self.gibibytes:g}", f"is below the {self.taken / 2**30:.3g} GiB "
                "of depth pictures", "raise it, or use fewer --views or a smaller --size",
            )  # fmt: skip

    def check(self, num_blocks: int, grid_side: float, at_least: bool = False) -> None:
        """Raises InputError where so many blocks, of voxels of a side, do not fit."""
        needed = (self.taken + num_blocks * POINTS * BYTES_PER_POINT) / 2**30
        if needed > self.gibibytes:
            raise InputError.of(
                "voxel", f"{grid_side:.4g}",
                f"needs {'at least ' * at_least}{num_blocks * POINTS / 1e6:.4g} million voxels, "
                f"{needed:.3g} GiB with the depth, above memory_limit={self.gibibytes:g} GiB",
                "use a larger voxel or a lower resolution, or raise --memory-limit",
            )  # fmt: skip


class Box(NamedTuple):
    """The least and the largest corner, float64 [3] each, and what share of depth lies outside."""

    low: np.ndarray
    high: np.ndarray
    outside: float

    @property
    def side(self) -> float:
        """The longest."""
        return float((self.high - self.low).max())

    def notes(self) -> tuple[str, ...]:
        """What to say of what lies outside."""
        if self.outside < LITTLE:
            return ()
        return (f"{100 * self.outside:.2g} % of the depth lies far from the others: left out",)


def scene_box(views: Sequence[DepthView]) -> Box:
    """Around what the views see, without outliers.

    Raises InputError where they see nothing.
    """
    total = sum(view.depth.size for view in views)
    stride = max(1, int(np.sqrt(total / BOX_POINTS)))
    points = np.concatenate([view.points(stride) for view in views])
    if not len(points):
        points = np.concatenate([view.points() for view in views])
    if not len(points):
        raise InputError(
            f"depth=nothing: {len(views)} views see no surface; is the scene empty, or behind the "
            "cameras? Give others with --cameras"
        )
    low, high = np.percentile(points, [OUTLIERS, 100 - OUTLIERS], axis=0)
    slack = SLACK * float((high - low).max())
    low, high = (
        np.maximum(low - slack, points.min(axis=0)),
        np.minimum(high + slack, points.max(axis=0)),
    )
    outside = 1 - float(((points >= low) & (points <= high)).all(axis=1).mean())
    return Box(low, high, outside)


def voxel_side(box: Box, config: SurfaceConfig) -> float:
    """As asked, else the longest side of the box over the resolution."""
    if config.voxel is not None:
        return config.voxel
    if not box.side > 0:
        raise InputError("depth=one point: a surface needs more; give other cameras (--cameras)")
    return box.side / (config.resolution or DEFAULT_RESOLUTION)


def blocks_near_surface(
    views: Sequence[DepthView],
    box: Box,
    voxel: float,
    truncation: float,
    limit: MemoryLimit,
) -> BlockGrid:
    """The blocks with a point within the truncation (voxels) of a surface that a view sees.

    Raises InputError where they do not fit into the limit.
    """
    reach = int(np.ceil(truncation)) + 2
    origin = box.low - voxel * (reach + BLOCK)
    shape = np.ceil(((box.high - box.low) / voxel + 2 * (reach + BLOCK)) / BLOCK).astype(np.int64)
    if shape.max() > MOST_BLOCKS:
        limit.check(int(shape.max()) ** 2, voxel, at_least=True)
    grid = BlockGrid(
        origin=origin, voxel=voxel, shape=tuple(shape.tolist()), keys=np.empty(0, np.int64)
    )
    offsets = np.stack(np.meshgrid(*[_steps(reach)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    keys = grid.keys
    for view in views:
        cells = _cells(grid, view, reach)
        for start in range(0, len(cells), CELLS_AT_ONCE):
            near = cells[start : start + CELLS_AT_ONCE, None] + offsets
            blocks = near.reshape(-1, 3) // BLOCK
            found = grid.numbers(blocks[grid.inside(blocks)])
            keys = np.union1d(keys, _distinct(found))
            limit.check(len(keys), voxel, at_least=True)
    return dataclasses.replace(grid, keys=keys)


def _cells(grid: BlockGrid, view: DepthView, reach: int) -> np.ndarray:
    """Grid points int64 [cell, 3], every second one, near which the view sees a surface."""
    points = (view.points() - grid.origin) / grid.voxel
    within = ((points > -reach) & (points < BLOCK * np.array(grid.shape) + reach)).all(axis=1)
    cells = np.floor(0.5 * points[within]).astype(np.int64)
    if not len(cells):
        return cells
    low = cells.min(axis=0)
    size = cells.max(axis=0) - low + 1
    flat = _distinct(np.asarray(np.ravel_multi_index(tuple((cells - low).T), tuple(size))))
    return 2 * (np.stack(np.unravel_index(flat, tuple(size.tolist())), axis=-1) + low) + 1


def _steps(reach: int) -> np.ndarray:
    """From -reach to reach in steps of less than a block."""
    return np.linspace(-reach, reach, 2 + 2 * reach // BLOCK).round().astype(np.int64)


def _distinct(numbers: np.ndarray) -> np.ndarray:
    """Each number once, ascending: a mask where they are dense, sorting elsewhere."""
    if not len(numbers):
        return numbers
    low, high = int(numbers.min()), int(numbers.max())
    if high - low > 8 * len(numbers) + 2**20:
        return np.unique(numbers)
    seen = np.zeros(high - low + 1, bool)
    seen[numbers - low] = True
    return np.flatnonzero(seen) + low
