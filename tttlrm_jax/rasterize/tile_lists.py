"""Which Gaussians each tile has to draw, in depth order, with static shapes.

A Gaussian takes one slot per tile its box meets. Slots are expanded in depth order into a static
capacity, then sorted by tile; a stable sort keeps each tile's list front to back. Beyond the
capacity the farthest Gaussians lose slots, and the loss is counted.
"""

import flax.struct
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int

from tttlrm_jax.rasterize.compositing import ScreenSplats, depth_order_key
from tttlrm_jax.rasterize.sorting import argsort_float32, argsort_uint32

TILE = 8  # px; splats of feed-forward models are a pixel or two wide, 16 would mostly miss
_INT32_MAX = 2**31 - 1


@flax.struct.dataclass
class TileLists:
    """`gaussian[start[t]:start[t + 1]]` are the Gaussians of tile t (row-major), front to back."""

    gaussian: Int[Array, " slot"]
    start: Int[Array, " tile_plus_one"]
    num_dropped: Int[Array, ""]


def tile_grid(height: int, width: int) -> tuple[int, int]:
    """Rows and columns of tiles that cover the image."""
    return -(-height // TILE), -(-width // TILE)


def tile_ranges(splats: ScreenSplats, height: int, width: int):
    """(first, size): column and row of the first tile, and their count, [gaussian, 2] int32."""
    rows, columns = tile_grid(height, width)
    limit = jnp.asarray([[columns, rows]], dtype=splats.mean.dtype)
    radius = splats.radius.astype(splats.mean.dtype)
    first = jnp.clip(jnp.floor((splats.mean - radius) / TILE), 0, limit)
    last = jnp.clip(jnp.ceil((splats.mean + radius) / TILE), 0, limit)
    drawn = jnp.all(splats.radius > 0, axis=-1, keepdims=True)
    size = jnp.where(drawn, jnp.maximum(last - first, 0), 0)
    return first.astype(jnp.int32), size.astype(jnp.int32)


def count_intersections(splats: ScreenSplats, height: int, width: int) -> Int[Array, ""]:
    """Number of slots the scene needs; stays at 2^31 - 1 where int32 would overflow."""
    return _running_total(_tiles_per_gaussian(splats, height, width), height, width)[-1]


def build_tile_lists(splats: ScreenSplats, height: int, width: int, capacity: int) -> TileLists:
    """Expands and sorts; see the module docstring."""
    rows, columns = tile_grid(height, width)
    num_tiles = rows * columns
    order = argsort_float32(depth_order_key(splats))
    first, size = tile_ranges(splats, height, width)
    first, size = first[order], size[order]
    count = size[:, 0] * size[:, 1]
    total = _running_total(count, height, width)

    slot = lax.iota(jnp.int32, capacity)
    # Rank in depth order of each slot's Gaussian: how many Gaussians end at or before the slot.
    ended = jnp.zeros(capacity, dtype=jnp.int32).at[total].add(1, mode="drop")
    rank = jnp.minimum(jnp.cumsum(ended), count.shape[0] - 1)
    within = slot - (total - count)[rank]
    columns_of = jnp.maximum(size[rank, 0], 1)
    column = first[rank, 0] + within % columns_of
    row = first[rank, 1] + within // columns_of
    tile = jnp.where(slot < total[-1], row * columns + column, num_tiles)

    sorted_slot = argsort_uint32(tile.astype(jnp.uint32), num_bits=num_tiles.bit_length())
    start = jnp.searchsorted(tile[sorted_slot], lax.iota(jnp.int32, num_tiles + 1))
    return TileLists(
        gaussian=order[rank[sorted_slot]],
        start=start.astype(jnp.int32),
        num_dropped=jnp.maximum(total[-1] - capacity, 0),
    )


def _tiles_per_gaussian(splats: ScreenSplats, height: int, width: int):
    _, size = tile_ranges(splats, height, width)
    return size[:, 0] * size[:, 1]


def _running_total(count: Int[Array, " gaussian"], height: int, width: int):
    """Inclusive cumulative sum that saturates where it could overflow."""
    rows, columns = tile_grid(height, width)
    if count.shape[0] * rows * columns <= _INT32_MAX:
        return jnp.cumsum(count)
    return lax.associative_scan(
        lambda a, b: jnp.where(a > _INT32_MAX - b, _INT32_MAX, a + b), count
    )
