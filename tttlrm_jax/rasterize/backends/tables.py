"""What backends with tile lists share: scenes, parameters as columns, tiles from and to images."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from tttlrm_jax.rasterize.backends.chunks import ChunkParams
from tttlrm_jax.rasterize.columns import split_columns
from tttlrm_jax.rasterize.compositing import Composite, ScreenSplats
from tttlrm_jax.rasterize.tile_lists import Static, TileLists, build_tile_lists
from tttlrm_jax.rasterize.transforms.one_kernel import one_by_one

NUM_GEOMETRY = 6  # columns before the features

# Parameters of Gaussians, one array per column; the last row is for slots past the end of a list.
Table = tuple[Float[Array, "*scene gaussian_plus_one"], ...]


def lists_one_by_one(static: Static, splats: ScreenSplats) -> TileLists:
    """`build_tile_lists` without derivative, for mapped scenes one after another."""
    build = one_by_one(lambda static, splats: build_tile_lists(splats, static))
    return build(static, lax.stop_gradient(splats))


def tangent_of(forward: Callable, over_scenes: Callable) -> Callable:
    """`tangent(static, saved, table_dot)`: the derivative of the images that `forward(static,
    table, lists)` gives with its residuals, by drawing once more; nothing is kept."""

    def along(static: Static, table: Table, lists: TileLists, table_dot):
        return jax.jvp(lambda table: forward(static, table, lists)[0], (table,), (table_dot,))[1]

    mapped = over_scenes(along)
    return lambda static, saved, table_dot: mapped(static, saved.table, saved.lists, table_dot)


def composite_lists(
    draw: Callable, static: Static, splats: ScreenSplats, lists: TileLists
) -> Composite:
    """What a backend's `draw(static, table, lists)` makes of splats and their lists."""
    feature, transmittance = draw(static, parameter_table(splats), lists)
    return Composite(feature, transmittance, lists.num_dropped)


def parameter_table(splats: ScreenSplats) -> Table:
    """Columns: mean, conic, log opacity, features. The last row, and every Gaussian of opacity 0,
    have the log opacity -inf, hence alpha 0."""
    positive = splats.opacity > 0
    log_opacity = jnp.log(jnp.where(positive, splats.opacity, 1))
    log_opacity = jnp.where(positive, log_opacity, -jnp.inf)
    zero, nothing = (jnp.full_like(log_opacity, x, shape=(1,)) for x in (0, -jnp.inf))
    geometry = [*split_columns(splats.mean), *split_columns(splats.conic)]
    columns = [jnp.append(x, zero) for x in (*geometry, *split_columns(splats.feature))]
    columns.insert(len(geometry), jnp.append(log_opacity, nothing))
    return tuple(columns)


def read_rows(table: Table, row: Int[Array, "tile slot"]) -> ChunkParams:
    """Parameters of the Gaussians in the slots.

    One short gather per column is several times faster than one gather of rows, if it is not
    fused into what uses it.
    """
    columns = lax.optimization_barrier(
        tuple(column.at[row].get(mode="promise_in_bounds") for column in table)
    )
    return ChunkParams(*columns[:NUM_GEOMETRY], features=columns[NUM_GEOMETRY:])


def corners(static: Static, tile: Int[Array, " tile"], dtype):
    """(x, y) of the top left corners of tiles, px."""
    columns = static.grid[1]
    left, top = tile % columns * static.tile, tile // columns * static.tile
    return left.astype(dtype), top.astype(dtype)


def image_from_tiles(static: Static, tiles: Float[Array, "tile channel pixel"]):
    """Tiles in row-major order to [height, width, channel]."""
    (rows, columns), num_channels, side = static.grid, tiles.shape[1], static.tile
    image = tiles.reshape(rows, columns, num_channels, side, side).transpose(0, 3, 1, 4, 2)
    image = image.reshape(rows * side, columns * side, num_channels)
    return image[: static.height, : static.width]


def tiles_from_image(static: Static, image: Float[Array, "height width channel"]):
    """[height, width, channel] to [tile, channel, pixel], zero outside of the image."""
    (rows, columns), num_channels, side = static.grid, image.shape[-1], static.tile
    bottom, right = rows * side - static.height, columns * side - static.width
    padded = jnp.pad(image, ((0, bottom), (0, right), (0, 0)))
    tiles = padded.reshape(rows, side, columns, side, num_channels).transpose(0, 2, 4, 1, 3)
    return tiles.reshape(static.num_tiles, num_channels, side * side)
