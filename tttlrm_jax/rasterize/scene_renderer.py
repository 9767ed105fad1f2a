"""Pictures of one scene of any size, camera after camera, with bounded memory; no derivatives.

Gaussians are projected block by block, and only those that a camera sees are kept: that is what is
sorted. The picture is composited in bands of rows of tiles, on a CPU as many side by side as it has
cores. Programs have room for what was needed so far, as powers of two, and for nothing of the
scene: few are compiled, however many cameras there are.
"""

import copy
import functools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tttlrm_jax.config import RasterConfig
from tttlrm_jax.core.devices import target_device
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.geometry.poses import rigid_inverse
from tttlrm_jax.core.types import Cameras, Gaussians
from tttlrm_jax.rasterize.compositing import ScreenSplats
from tttlrm_jax.rasterize.render import GSPLAT, Rendering, capacity_for, composite
from tttlrm_jax.rasterize.screen import project_and_judge
from tttlrm_jax.rasterize.tile_lists import TILE, tile_grid, tile_ranges

BLOCK = 2**16  # Gaussians projected at a time
BANDS, LEAST_ROWS = 8, 4  # of a picture on a CPU, and rows of tiles of a band at least
MOST_TILES = 2**13  # of a band
HIDDEN_LOGIT = -100.0  # opacity of Gaussians that fill up the last block


class _Seen(NamedTuple):
    """What a camera sees of some Gaussians, on the host; those that are not drawn are left out."""

    screen: ScreenSplats
    row: np.ndarray  # int32 [gaussian]: the first tile that its box meets, downwards
    rows: np.ndarray  # int32 [gaussian]: tiles of the box downwards
    columns: np.ndarray  # int32 [gaussian]: and across


class _Room(NamedTuple):
    """What a program has room for in a band."""

    gaussians: int
    slots: int  # pairs of Gaussian and tile


class SceneRenderer:
    """Renders one scene from any camera; its memory is that of the scene and of what is seen.

    The same picture as `render` gives, up to rounding, for scenes and sizes that would not fit
    there; nothing is dropped. Not differentiable, and not under `jit`.

        renderer = SceneRenderer(gaussians, background=(1.0, 1.0, 1.0))
        picture = renderer(camera).rgb  # one camera: NumPy [height, width, 3]
    """

    def __init__(
        self,
        gaussians: Gaussians,
        *,
        background: tuple[float, float, float] | None = None,
        config: RasterConfig = GSPLAT,
        block: int = BLOCK,
    ):
        """`gaussians` [gaussian] of one scene; `block` of them are projected at a time.

        Raises InputError for a batch of scenes.
        """
        self._on_cpu, self._block = target_device().platform == "cpu", block
        self._hold(gaussians)
        colour = (0.0, 0.0, 0.0) if background is None else background
        self._background, self.config = np.asarray(colour, np.float32), config
        self._rooms: dict[tuple[int, int], _Room] = {}  # by height and width
        self._programs: dict[Any, Callable] = {}
        self.seconds = 0.0  # that the newest picture took, without compiling
        self.compile_seconds = 0.0  # so far
        self.num_seen = 0  # Gaussians in the newest picture

    def with_scene(self, gaussians: Gaussians) -> "SceneRenderer":
        """A renderer of another scene, by the same programs where these have room for it."""
        other = copy.copy(self)
        other._hold(gaussians)
        return other

    def _hold(self, gaussians: Gaussians) -> None:
        if np.ndim(gaussians.mean) != 2:
            raise InputError.of(
                "gaussians.mean.shape", np.shape(gaussians.mean), "is not [gaussian, 3]",
                "render one scene at a time",
            )  # fmt: skip
        self.num_gaussians = len(gaussians.mean)
        self._blocks = _blocks(gaussians, self._block)
        if not self._on_cpu:
            self._blocks = [jax.device_put(part) for part in self._blocks]

    def __call__(self, camera: Cameras) -> Rendering:
        """One camera (no leading axes): NumPy arrays. Raises InputError as `render`."""
        if np.shape(camera.world_from_camera) != (4, 4) or min(camera.height, camera.width) < 1:
            raise InputError.of(
                "camera", (np.shape(camera.world_from_camera), camera.height, camera.width),
                "is not one pose (4, 4) with a positive height and width", "give one camera",
            )  # fmt: skip
        begun, compiled = time.perf_counter(), self.compile_seconds
        seen, num_invalid = self._look(camera)
        rendering = self._composite(seen, camera.height, camera.width, num_invalid)
        self.num_seen = len(seen.row)
        self.seconds = time.perf_counter() - begun - (self.compile_seconds - compiled)
        return rendering

    def frames(self, cameras: Sequence[Cameras]) -> Iterator[np.ndarray]:
        """Pictures [height, width, 3] of one camera after another, made as they are asked for."""
        return (np.asarray(self(camera).rgb) for camera in cameras)

    def _look(self, camera: Cameras) -> tuple[_Seen, int]:
        """(what the camera sees, in the order of the scene; how many Gaussians are invalid)."""
        lens = np.asarray(camera.intrinsics, np.float32)
        pose = np.asarray(camera.world_from_camera, np.float32)
        static = {"height": camera.height, "width": camera.width, "config": self.config}
        if not self._blocks:
            return _nothing_seen(), 0
        look = self._compiled(_look_at, (self._blocks[0], pose, lens), static)
        parts = self._side_by_side(lambda block: _drawn(look(block, pose, lens)), self._blocks)
        seen = jax.tree.map(lambda *columns: np.concatenate(columns), *(part for part, _ in parts))
        return seen, sum(invalid for _, invalid in parts)

    def _composite(self, seen: _Seen, height: int, width: int, num_invalid: int) -> Rendering:
        rows, columns = tile_grid(height, width)
        deep = _rows_of_band(rows, columns) if self._on_cpu else rows
        tops = range(0, rows, deep)
        members = [_members(seen, min(top, rows - deep), deep) for top in tops]
        room = self._grown(height, width, max(members, key=lambda band: band.slots), members)
        while True:
            bands = self._drawn_bands(seen, members, room, (deep * TILE, width))
            dropped = sum(int(band[3]) for band in bands)
            if not dropped:
                break
            room = self._rooms[height, width] = room._replace(slots=capacity_for(2 * room.slots))
        new = [(top - band.first) * TILE for top, band in zip(tops, members, strict=True)]
        rgb, depth, alpha = (
            np.concatenate([np.asarray(each[part])[n:] for n, each in zip(new, bands, strict=True)])
            for part in range(3)
        )
        rgb, depth, alpha = rgb[:height], depth[:height], alpha[:height]
        none, invalid = (np.asarray(count, np.int32) for count in (0, num_invalid))
        return Rendering(rgb, depth, alpha, none, invalid)  # type: ignore[arg-type]

    def _grown(self, height: int, width: int, largest, members) -> _Room:
        """Room for all bands of this picture, and of those of this size before it."""
        count = max(len(band.index) for band in members)
        known = self._rooms.get((height, width), _Room(1, 1))
        needed = _Room(1 << max(count - 1, 0).bit_length(), capacity_for(largest.slots))
        self._rooms[height, width] = _Room(*map(max, zip(known, needed, strict=True)))
        return self._rooms[height, width]

    def _drawn_bands(self, seen: _Seen, members, room: _Room, size: tuple[int, int]) -> list:
        static = {"height": size[0], "width": size[1], "config": self.config}
        shapes = _filled(seen, members[0], room.gaussians)
        draw = self._compiled(_draw, (shapes, self._background), {**static, "capacity": room.slots})

        def one(band: "_Members"):
            screen = shapes if band is members[0] else _filled(seen, band, room.gaussians)
            return jax.block_until_ready(draw(screen, self._background))

        return self._side_by_side(one, members)

    def _side_by_side(self, function: Callable, items: Sequence) -> list:
        """Results in order; on a CPU as many at a time as there are cores."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        if not self._on_cpu or len(items) < 2 or cores == 1:
            return [function(item) for item in items]
        with ThreadPoolExecutor(cores) as pool:
            return list(pool.map(function, items))

    def _compiled(self, function: Callable, arguments: tuple, static: dict[str, Any]) -> Callable:
        """The program for these shapes."""
        shapes = tuple(x.shape for x in jax.tree.leaves(arguments))
        key = (function, shapes, tuple(static.values()))
        if key not in self._programs:
            start = time.perf_counter()
            program = jax.jit(functools.partial(function, **static))
            self._programs[key] = program.lower(*arguments).compile()
            self.compile_seconds += time.perf_counter() - start
        return self._programs[key]


class _Members(NamedTuple):
    """Gaussians of a band of rows of tiles."""

    index: np.ndarray  # int [gaussian], ascending
    first: int  # row of tiles
    slots: int  # pairs of Gaussian and tile


def _blocks(gaussians: Gaussians, block: int) -> list[Gaussians]:
    """Parts of one size on the host, which share the memory of the scene but for the last."""
    host = jax.tree.map(lambda x: np.asarray(x, np.float32), gaussians)
    count = len(host.mean)
    size = min(block, 1 << max(count - 1, 0).bit_length())
    parts = [
        jax.tree.map(lambda x, n=first: x[n : n + size], host) for first in range(0, count, size)
    ]
    if parts:
        parts[-1] = _filled_block(parts[-1], size)
    return parts


def _filled_block(part: Gaussians, size: int) -> Gaussians:
    """With Gaussians that no camera sees, up to `size`."""
    fills = {"opacity_logit": HIDDEN_LOGIT, "quaternion": 1.0}

    def fill(name: str, values) -> Any:
        missing = [(0, size - len(values))] + [(0, 0)] * (values.ndim - 1)
        return np.pad(values, missing, constant_values=fills.get(name, 0.0))

    return Gaussians(**{name: fill(name, values) for name, values in vars(part).items()})


def _look_at(gaussians: Gaussians, pose, lens, *, height: int, width: int, config: RasterConfig):
    """(screen splats, first tile, tiles of the box, invalid ones)."""
    screen, invalid = project_and_judge(
        gaussians.activate(), rigid_inverse(pose), lens, height, width, config
    )
    first, size = tile_ranges(screen, height, width)
    return screen, first, size, jnp.sum(invalid, dtype=jnp.int32)


def _drawn(looked) -> tuple[_Seen, int]:
    """Those that are drawn, on the host."""
    screen, first, size, invalid = jax.tree.map(np.asarray, looked)
    drawn = np.flatnonzero((size[:, 0] > 0) & (size[:, 1] > 0))
    kept = jax.tree.map(lambda x: x[drawn], (screen, first, size))
    return _Seen(kept[0], kept[1][:, 1], kept[2][:, 1], kept[2][:, 0]), int(invalid)


def _nothing_seen() -> _Seen:
    zeros: Any = functools.partial(np.zeros, dtype=np.float32)
    no_tiles: Any = np.zeros(0, np.int32)
    no_radius: Any = np.zeros((0, 2), np.int32)
    screen = ScreenSplats(
        mean=zeros((0, 2)), conic=zeros((0, 3)), opacity=zeros(0), feature=zeros((0, 4)),
        depth=zeros(0), radius=no_radius,
    )  # fmt: skip
    return _Seen(screen, no_tiles, no_tiles, no_tiles)


def _rows_of_band(rows: int, columns: int) -> int:
    """Rows of tiles of a band."""
    return min(max(-(-rows // BANDS), LEAST_ROWS), max(MOST_TILES // columns, 1), rows)


def _members(seen: _Seen, first: int, deep: int) -> _Members:
    """Those whose boxes meet the band of `deep` rows of tiles from `first` on."""
    overlap = np.minimum(seen.row + seen.rows, first + deep) - np.maximum(seen.row, first)
    index = np.flatnonzero(overlap > 0)
    slots = np.sum(overlap[index].astype(np.int64) * seen.columns[index])
    return _Members(index, first, int(slots))


def _filled(seen: _Seen, band: _Members, room: int) -> ScreenSplats:
    """The band's Gaussians as it sees them, and ones that are not drawn up to `room`."""

    def fill(values) -> Any:
        made = np.zeros((room, *values.shape[1:]), values.dtype)
        np.take(values, band.index, axis=0, out=made[: len(band.index)], mode="clip")
        return made

    screen = jax.tree.map(fill, seen.screen)
    screen.mean[: len(band.index), 1] -= band.first * TILE
    return screen


def _draw(screen: ScreenSplats, background, *, height, width, config, capacity):
    """(colours, depth, alpha, dropped) of a band."""
    made = composite(screen, height, width, background=background, config=config, capacity=capacity)
    return made.rgb, made.depth, made.alpha, made.num_dropped
