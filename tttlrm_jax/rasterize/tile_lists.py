"""Which Gaussians each tile has to draw, in depth order, with static shapes.

Gaussians are sorted by depth once. Each then takes one candidate slot per tile that its box meets;
slots are numbered in depth order up to a static capacity, beyond which the farthest Gaussians lose
theirs, and the loss is counted. A slot is kept if its tile has a point between pixel centres where
alpha can reach `min_alpha`: the others could not have changed a pixel. Kept slots are placed by
tile, stably, so that every list runs front to back.

On CPU the placement is a counting sort, with as many parallel counters as `LANES`; elsewhere an
integer sort. Both give the same lists.
"""

import functools
from typing import NamedTuple

import flax.struct
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
from tttlrm_jax.rasterize.manual_axes import full_after, varying_as
from tttlrm_jax.rasterize.sorting import argsort_float32, argsort_uint32

TILE = 8  # px; splats of feed-forward models are a pixel or two wide, 16 would mostly miss
CHUNK = 32  # slots; lists start at a multiple of it
LANES = 256  # slots enumerated at once on CPU, each lane with counters of its own
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


def place_by_counting(candidates: Candidates, static: Static):
    """(gaussian, first_chunk, num_chunks) of TileLists, by a counting sort.

    Each lane takes a run of consecutive slots, one per step. A first walk finds tiles and counts
    them per lane; sums of the counts over lanes and tiles say where each lane puts its first slot
    of each tile; a second walk puts them.
    """
    num_tiles, capacity = static.num_tiles, static.capacity
    # Fewer lanes where the counters would outweigh the slots.
    lanes = min(max(capacity // num_tiles, LANES // 4), LANES)
    num_gaussians = candidates.gaussian.shape[0]
    limit = jnp.minimum(candidates.end[-1], capacity)
    num_steps = -(-limit // lanes)
    lane = lax.iota(jnp.int32, lanes)
    counter = lane * (num_tiles + 1)
    shape = (-(-capacity // lanes), lanes)

    def enumerate_slots(step, carry):
        rank, count, tiles, ranks = carry
        slot = lane * num_steps + step
        ended = candidates.end.at[rank].get(mode="promise_in_bounds") <= slot
        rank = jnp.minimum(rank + ended.astype(jnp.int32), num_gaussians - 1)
        tile = _tile_of_slot(candidates, slot, rank, limit, static)
        count = count.at[counter + tile].add(1, mode="promise_in_bounds", unique_indices=True)
        return rank, count, tiles.at[step].set(tile), ranks.at[step].set(rank)

    rank = jnp.searchsorted(candidates.end, lane * num_steps, side="right").astype(jnp.int32)
    start = (
        varying_as(candidates, jnp.minimum(rank, num_gaussians - 1)),
        *(
            full_after(candidates, size, 0, jnp.int32)
            for size in ((lanes * (num_tiles + 1),), shape, shape)
        ),
    )
    _, count, tiles, ranks = lax.fori_loop(0, num_steps, enumerate_slots, start)

    total, before = lax.scan(
        lambda total, row: (total + row, total),
        varying_as(candidates, jnp.zeros(num_tiles + 1, jnp.int32)),
        count.reshape(lanes, -1),
    )
    first_chunk, num_chunks = _chunks_of_tiles(total[:-1])
    size = (static.empty_chunk + 1) * CHUNK
    target = (before + jnp.append(first_chunk * CHUNK, size)[None]).reshape(-1)

    def put_slots(step, carry):
        target, gaussian = carry
        at = counter + tiles[step]
        position = target.at[at].get(mode="promise_in_bounds")
        target = target.at[at].set(position + 1, mode="promise_in_bounds", unique_indices=True)
        value = candidates.gaussian.at[ranks[step]].get(mode="promise_in_bounds")
        return target, gaussian.at[position].set(value, mode="drop")

    gaussian = full_after((total, candidates), (size,), num_gaussians, jnp.int32)
    _, gaussian = lax.fori_loop(0, num_steps, put_slots, (target, gaussian))
    return gaussian.reshape(-1, CHUNK), first_chunk, num_chunks


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
