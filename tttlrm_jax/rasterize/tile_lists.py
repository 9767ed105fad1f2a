"""Which Gaussians each tile has to draw, in depth order, with static shapes.

Gaussians are sorted by depth once. Each then takes one candidate slot per tile that its box meets;
slots are numbered in depth order up to a static capacity, beyond which the farthest Gaussians lose
theirs, and the loss is counted. A slot is kept if its tile has a point between pixel centres where
alpha can reach `min_alpha`: the others could not have changed a pixel. Kept slots are placed by
tile, stably, so that every list runs front to back.

On CPU the placement is a counting sort, elsewhere an integer sort. Both give the same lists.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
from jax import custom_batching, lax
from jaxtyping import Array, Float, Int

from tttlrm_jax.config import RasterConfig
from tttlrm_jax.rasterize.compositing import (
    ScreenSplats,
    depth_order_key,
    negative_log_falloff,
    thresholds,
)
from tttlrm_jax.rasterize.sorting import argsort_float32, argsort_uint32
from tttlrm_jax.rasterize.transforms.manual_axes import varying_as
from tttlrm_jax.rasterize.transforms.one_kernel import at, one_kernel, put

TILE = 8  # px; splats of feed-forward models are a pixel or two wide, 16 would mostly miss
CHUNK = 32  # slots; lists start at a multiple of it
WALK = 64  # slots tested at once on CPU
_INT32_MAX = 2**31 - 1


@flax.struct.dataclass
class TileLists:
    """`gaussian[first_chunk[t] : first_chunk[t] + num_chunks[t]]` is the list of tile t.

    Tiles are row-major, lists front to back. Slots past the end of a list, and the whole last
    chunk, hold the number of Gaussians.
    """

    gaussian: Int[Array, "chunk slot"]
    first_chunk: Int[Array, " tile"]
    num_chunks: Int[Array, " tile"]
    num_dropped: Int[Array, ""]  # candidate slots beyond the capacity


class Candidates(NamedTuple):
    """Gaussians in depth order, and the candidate slots of each: [end - tiles of its box, end)."""

    gaussian: Int[Array, " rank"]
    column: Int[Array, " rank"]  # first tile of the box
    row: Int[Array, " rank"]
    columns: Int[Array, " rank"]
    begin: Int[Array, " rank"]
    end: Int[Array, " rank"]
    mean_x: Float[Array, " rank"]
    mean_y: Float[Array, " rank"]
    conic_uu: Float[Array, " rank"]
    conic_uv: Float[Array, " rank"]
    conic_vv: Float[Array, " rank"]
    reach: Float[Array, " rank"]  # sigma up to which alpha is at least min_alpha


def tile_grid(height: int, width: int, tile: int = TILE) -> tuple[int, int]:
    """Rows and columns of tiles of `tile` px that cover the image."""
    return -(-height // tile), -(-width // tile)


class Static(NamedTuple):
    """What is known of one camera's lists while tracing."""

    height: int
    width: int
    capacity: int  # candidate slots
    config: RasterConfig
    tile: int = TILE  # side, px
    interpret: bool = False  # the Pallas kernels, where they are not compiled
    parts: int = 1  # of the picture, see `in_parts`

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of tiles."""
        return tile_grid(self.height, self.width, self.tile)

    @property
    def num_tiles(self) -> int:
        return self.grid[0] * self.grid[1]

    @property
    def num_pixels(self) -> int:
        """Pixels of a tile."""
        return self.tile * self.tile

    @property
    def empty_chunk(self) -> int:
        """Number of the last chunk, which is empty, behind all that the lists can need."""
        return self.capacity // CHUNK + self.num_tiles


def tile_ranges(splats: ScreenSplats, height: int, width: int, tile: int = TILE):
    """(first, size): column and row of the first tile, and their count, [gaussian, 2] int32."""
    rows, columns = tile_grid(height, width, tile)
    limit = jnp.asarray([[columns, rows]], dtype=splats.mean.dtype)
    radius = splats.radius.astype(splats.mean.dtype)
    first = jnp.clip(jnp.floor((splats.mean - radius) / tile), 0, limit)
    last = jnp.clip(jnp.ceil((splats.mean + radius) / tile), 0, limit)
    drawn = jnp.all(splats.radius > 0, axis=-1, keepdims=True)
    size = jnp.where(drawn, jnp.maximum(last - first, 0), 0)
    return first.astype(jnp.int32), size.astype(jnp.int32)


def count_intersections(splats: ScreenSplats, height: int, width: int) -> Int[Array, ""]:
    """Number of candidate slots of the scene; stays at 2^31 - 1 where int32 would overflow."""
    _, size = tile_ranges(splats, height, width)
    return _running_total(size[:, 0] * size[:, 1], height, width)[-1]


def build_tile_lists(splats: ScreenSplats, static: Static) -> TileLists:
    """Sorts, expands, tests and places; see the module docstring."""
    return place_slots(candidate_slots(splats, static), static)


def place_slots(candidates: Candidates, static: Static) -> TileLists:
    """The second half of `build_tile_lists`: expands, tests and places."""
    by_counting, by_sorting = (
        functools.partial(method, static=static) for method in (place_by_counting, place_by_sorting)
    )
    gaussian, first_chunk, num_chunks = lax.platform_dependent(
        candidates,
        cpu=custom_batching.sequential_vmap(by_counting),  # its loops stay short
        default=by_sorting,
    )
    num_dropped = jnp.maximum(candidates.end[-1] - static.capacity, 0)
    return TileLists(gaussian, first_chunk, num_chunks, num_dropped)


def num_listed(lists: TileLists) -> Int[Array, ""]:
    """Number of slots that hold a Gaussian."""
    return jnp.sum(lists.gaussian < lists.gaussian[-1, -1], dtype=jnp.int32)


def candidate_slots(splats: ScreenSplats, static: Static) -> Candidates:
    """The first half of `build_tile_lists`: sorts by depth and counts."""
    first, size = tile_ranges(splats, static.height, static.width, static.tile)
    # Whoever has a slot comes before all who have none.
    farthest = jnp.finfo(jnp.float32).max
    key = jnp.minimum(depth_order_key(splats), farthest)
    order = argsort_float32(jnp.where(size[:, 0] * size[:, 1] > 0, key, jnp.inf))
    _, min_alpha, _ = thresholds(static.config, splats.opacity.dtype)
    # Some slack for the rounding of exp and log.
    reach = jnp.log(jnp.maximum(splats.opacity / min_alpha, 1)) + 1e-3
    columns = (*first.T, *size.T, *splats.mean.T, *splats.conic.T, reach)
    column, row, width_of, height_of, *geometry = (
        x.at[order].get(mode="promise_in_bounds") for x in columns
    )
    count = width_of * height_of
    end = _running_total(count, static.height, static.width)
    return Candidates(order, column, row, width_of, end - count, end, *geometry)


def _running_total(count: Int[Array, " gaussian"], height: int, width: int):
    """Inclusive cumulative sum that saturates where it could overflow."""
    rows, columns = tile_grid(height, width)
    if count.shape[0] * rows * columns <= _INT32_MAX:
        return jnp.cumsum(count)
    return lax.associative_scan(
        lambda a, b: jnp.where(a > _INT32_MAX - b, _INT32_MAX, a + b), count
    )


def _tile_of_slot(candidates: Candidates, slot, rank, limit, static: Static):
    """Tile of candidate slots, given the ranks of their Gaussians; the number of tiles for slots
    from `limit` on and for those whose Gaussian cannot reach the tile."""
    c = Candidates(*(x.at[rank].get(mode="promise_in_bounds") for x in candidates))
    within = slot - c.begin
    down = within // jnp.maximum(c.columns, 1)
    column, row = c.column + within - down * c.columns, c.row + down
    keep = (slot < limit) & _reaches(c, column, row, static.tile)
    return jnp.where(keep, row * static.grid[1] + column, static.num_tiles)


def _reaches(c: Candidates, column, row, side: int):
    """Whether sigma, least over the rectangle of a tile's pixel centres, stays within reach.

    sigma is convex and least at the Gaussian's centre: over a rectangle, at the point nearest to
    the centre in x or in y, on an edge that faces the centre.
    """
    left = (column * side).astype(c.mean_x.dtype) + 0.5 - c.mean_x
    top = (row * side).astype(c.mean_y.dtype) + 0.5 - c.mean_y
    right, bottom = left + (side - 1), top + (side - 1)
    near_x, near_y = jnp.clip(0, left, right), jnp.clip(0, top, bottom)
    best_y = jnp.clip(-c.conic_uv * near_x / c.conic_vv, top, bottom)
    best_x = jnp.clip(-c.conic_uv * near_y / c.conic_uu, left, right)
    conic = (c.conic_uu, c.conic_uv, c.conic_vv)
    least = jnp.minimum(
        negative_log_falloff(near_x, best_y, *conic), negative_log_falloff(best_x, near_y, *conic)
    )
    # A bound of the rounding errors of sigma, here and at the pixels, as its terms may cancel.
    far_x, far_y = jnp.maximum(-left, right), jnp.maximum(-top, bottom)
    terms = c.conic_uu * far_x * far_x + c.conic_vv * far_y * far_y
    return least <= c.reach + 16 * jnp.finfo(terms.dtype).eps * terms


def _chunks_of_tiles(count: Int[Array, " tile"]):
    """(first chunk, number of chunks) of tiles with `count` slots."""
    num_chunks = -(-count // CHUNK)
    return jnp.cumsum(num_chunks) - num_chunks, num_chunks


# ---- placing by counting ----------------------------------------------------------------------


class _Slot(NamedTuple):
    """A candidate slot, or several: the rank of its Gaussian, and its tile."""

    rank: Int[Array, "*slot"]
    column: Int[Array, "*slot"]
    row: Int[Array, "*slot"]


def place_by_counting(candidates: Candidates, static: Static):
    """(gaussian, first_chunk, num_chunks) of TileLists, by a counting sort: a first walk over the
    slots counts those of each tile, a second one puts them."""
    starts = starts_of_parts(candidates, static)
    counted = [count_slots(static, jnp.int32(i), candidates, starts) for i in range(static.parts)]
    return put_counted(static, candidates, starts, counted)


class Starts(NamedTuple):
    """Where parts of the slots start, which are taken WALK at a time."""

    walk: Int[Array, " part_plus_one"]  # the last one ends them
    before: _Slot  # the slot in front of each part


def starts_of_parts(candidates: Candidates, static: Static) -> Starts:
    """Parts with equally many slots."""
    walks = -(-jnp.minimum(candidates.end[-1], static.capacity) // WALK)
    share, rest = walks // static.parts, walks % static.parts
    walk = jnp.stack([i * share + jnp.minimum(i, rest) for i in range(static.parts + 1)])
    slot = walk[:-1] * WALK - 1
    rank = jnp.sum(candidates.end[None] <= slot[:, None], axis=1, dtype=jnp.int32)
    c = Candidates(*(x.at[rank].get(mode="clip") for x in candidates))
    within, columns = slot - c.begin, jnp.maximum(c.columns, 1)
    # in front of all of them is the one that the first one comes after, in its row
    down = jnp.where(slot < 0, 0, within // columns)
    return Starts(walk, _Slot(rank, c.column + within - down * columns, c.row + down))


@one_kernel
def count_slots(static: Static, part: Int[Array, ""], candidates: Candidates, starts: Starts):
    """(tile of each slot, slots of each tile) of a part; the number of tiles stands for none."""
    limit = jnp.minimum(candidates.end[-1], static.capacity)
    begin, end = at(starts.walk, part), at(starts.walk, part + 1)

    def walk(i, carry):
        slot, tiles, count = carry
        slot, slots = _next_slots(candidates, slot, i * WALK)
        c = Candidates(*(x.at[slots.rank].get(mode="promise_in_bounds") for x in candidates))
        keep = _reaches(c, slots.column, slots.row, static.tile)
        keep &= i * WALK + lax.iota(jnp.int32, WALK) < limit
        tile = jnp.where(keep, slots.row * static.grid[1] + slots.column, static.num_tiles)

        def add(j, count):
            return put(count, at(count, at(tile, j)) + 1, at(tile, j))

        return slot, put(tiles, tile, i - begin), lax.fori_loop(0, WALK, add, count)

    slot = jax.tree.map(lambda x: at(x, part), starts.before)
    tiles = jnp.zeros((-(-static.capacity // (WALK * static.parts)), WALK), jnp.int32)
    start = (slot, tiles, jnp.zeros(static.num_tiles + 1, jnp.int32))
    start = varying_as((candidates, starts), start)
    _, tiles, count = lax.fori_loop(begin, end, walk, start)
    return tiles.reshape(-1), count


def put_counted(static: Static, candidates: Candidates, starts: Starts, counted: Sequence):
    """(gaussian, first_chunk, num_chunks) of TileLists, from what was counted in each part."""
    tiles, count = zip(*counted, strict=True)
    first_chunk, num_chunks = _chunks_of_tiles(functools.reduce(jnp.add, count)[:-1])
    last = (static.empty_chunk + 1) * CHUNK - 1  # where nothing is to be seen
    target = jnp.append(first_chunk * CHUNK, last)
    gaussian = _put_slots(
        static, candidates.gaussian, candidates.end, starts.walk, jnp.stack(tiles), target
    )
    return gaussian.reshape(-1, CHUNK), first_chunk, num_chunks


def _next_slots(candidates: Candidates, slot: _Slot, begin) -> tuple[_Slot, _Slot]:
    """(the last, all) of the slots from number `begin` on, behind `slot`: row after row of a box,
    one Gaussian after another."""

    def step(i, carry):
        slot, slots = carry
        new = at(candidates.end, slot.rank) <= begin + i
        rank = jnp.minimum(slot.rank + new, candidates.gaussian.shape[0] - 1)
        left, top = at(candidates.column, rank), at(candidates.row, rank)
        wraps = slot.column + 1 == left + at(candidates.columns, rank)
        column = jnp.where(new | wraps, left, slot.column + 1)
        slot = _Slot(rank, column, jnp.where(new, top, slot.row + wraps))
        return slot, jax.tree.map(lambda all_, one: put(all_, one, i), slots, slot)

    nothing = varying_as(candidates, _Slot(*(jnp.zeros(WALK, jnp.int32),) * 3))
    return lax.fori_loop(0, WALK, step, (slot, nothing))


@one_kernel
def _put_slots(static: Static, order, end, walk, tiles, target) -> Int[Array, " slot"]:
    """Gaussians in the lists, where `target` [tile] says where the next one goes; `tiles` are those
    of the slots of each part [part, slot], which starts at `walk`."""
    num_gaussians = order.shape[0]
    limit = jnp.minimum(end[-1], static.capacity)

    def put_part(part, carry):
        begin = at(walk, part) * WALK

        def put_slot(slot, carry):
            rank, target, gaussian = carry
            rank = jnp.minimum(rank + (at(end, rank) <= slot), num_gaussians - 1)
            tile = lax.dynamic_index_in_dim(at(tiles, part), slot - begin, keepdims=False)
            kept = tile < static.num_tiles
            target = put(target, at(target, tile) + kept, tile)
            position = at(target, tile) - kept  # read after it is written: no copy is made
            value = jnp.where(kept, at(order, rank), num_gaussians)
            return rank, target, put(gaussian, value, position)

        after = jnp.minimum(at(walk, part + 1) * WALK, limit)
        return lax.fori_loop(begin, after, put_slot, carry)

    gaussian = jnp.full((static.empty_chunk + 1) * CHUNK, num_gaussians, jnp.int32)
    like = (order, end, walk, tiles, target)
    start = varying_as(like, (jnp.int32(0), target, gaussian))
    return lax.fori_loop(0, static.parts, put_part, start)[2]


# ---- placing by sorting -----------------------------------------------------------------------


def place_by_sorting(candidates: Candidates, static: Static):
    """(gaussian, first_chunk, num_chunks) of TileLists, by a stable sort of all slots by tile."""
    num_tiles, capacity = static.num_tiles, static.capacity
    num_gaussians = candidates.gaussian.shape[0]
    slot = lax.iota(jnp.int32, capacity)
    # How many Gaussians end at or before each slot.
    ended = jnp.zeros(capacity, dtype=jnp.int32).at[candidates.end].add(1, mode="drop")
    rank = jnp.minimum(jnp.cumsum(ended), num_gaussians - 1)
    tile = _tile_of_slot(candidates, slot, rank, candidates.end[-1], static)

    order = argsort_uint32(tile.astype(jnp.uint32), num_bits=num_tiles.bit_length())
    tile = tile[order]
    start = jnp.searchsorted(tile, lax.iota(jnp.int32, num_tiles + 1)).astype(jnp.int32)
    first_chunk, num_chunks = _chunks_of_tiles(jnp.diff(start))
    size = (static.empty_chunk + 1) * CHUNK
    offset = jnp.append(first_chunk * CHUNK - start[:-1], size)
    gaussian = jnp.full(size, num_gaussians, jnp.int32)
    gaussian = gaussian.at[slot + offset[tile]].set(
        candidates.gaussian[rank[order]], mode="drop", unique_indices=True
    )
    return gaussian.reshape(-1, CHUNK), first_chunk, num_chunks
