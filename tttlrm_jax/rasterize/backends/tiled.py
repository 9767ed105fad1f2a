"""Tiled compositing in pure JAX: static shapes, derivative by recomputation.

Tiles are ranked by the length of their lists and taken in groups of similar length. A group walks
its lists front to back, one chunk of every list at a time, with a dynamic trip count, so that
unused capacity and saturated tiles cost nothing.

The forward pass keeps its inputs, the tile lists and the transmittance at which each chunk starts
(capacity x pixels / CHUNK numbers). The backward pass recomputes a chunk's alphas from these and
walks back to front, so that memory never grows as pixels x Gaussians. Forward mode walks once more,
too. Not differentiable twice; the order, skipping and stopping are constants. Under `vmap` scenes
are mapped one after another.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from tttlrm_jax.rasterize.backends.chunks import (
    Chunk,
    ChunkParams,
    direct_exponent,
    evaluate,
    feature_sums,
    gradient,
)
from tttlrm_jax.rasterize.backends.tables import (
    NUM_GEOMETRY,
    Table,
    composite_lists,
    corners,
    image_from_tiles,
    lists_one_by_one,
    one_by_one,
    read_rows,
    tangent_of,
    tiles_from_image,
)
from tttlrm_jax.rasterize.compositing import Composite, ScreenSplats, thresholds
from tttlrm_jax.rasterize.forward_mode import both_modes
from tttlrm_jax.rasterize.manual_axes import full_after, varying_as
from tttlrm_jax.rasterize.tile_lists import TILE, Static, TileLists

GROUP = 16  # tiles walked together: their arrays fit the second-level cache of a CPU
PIXELS = TILE * TILE


class _Schedule(NamedTuple):
    """Tiles in groups; padding tiles have empty lists."""

    tile: Int[Array, "group tile"]  # tile index, row-major in the image
    first_chunk: Int[Array, "group tile"]
    num_chunks: Int[Array, "group tile"]


class _Saved(NamedTuple):
    """Residuals of the backward pass."""

    table: Table
    lists: TileLists
    schedule: _Schedule
    chunk_transmittance: Float[Array, "chunk pixel"]
    rounds: Int[Array, " group"]  # chunks walked before every pixel of the group had stopped
    transmittance: Float[Array, "group tile pixel"]


def composite(splats: ScreenSplats, static: Static) -> Composite:
    """Front-to-back compositing with at most `capacity` candidate Gaussian-tile intersections."""
    return composite_lists(draw, static, splats, lists_one_by_one(static, splats))


# ---- walking the lists ------------------------------------------------------------------------


def _schedule(lists: TileLists) -> _Schedule:
    """Ranks tiles by list length, so that a group's lists end at about the same chunk."""
    num_tiles = lists.num_chunks.shape[0]
    order = jnp.argsort(-lists.num_chunks, stable=True).astype(jnp.int32)
    padding = -num_tiles % GROUP

    def grouped(x, fill):
        return jnp.pad(x, (0, padding), constant_values=fill).reshape(-1, GROUP)

    return _Schedule(
        grouped(order, num_tiles),
        grouped(lists.first_chunk[order], 0),
        grouped(lists.num_chunks[order], 0),
    )


def _read_chunk(
    static: Static, table: Table, lists: TileLists, group: _Schedule, number, transmittance
) -> tuple[Int[Array, "tile slot"], ChunkParams, Chunk]:
    """(table rows, parameters, evaluation) of chunk `where` of each tile of a group."""
    row = lists.gaussian.at[number].get(mode="promise_in_bounds")
    params = read_rows(table, row)
    corner = corners(static, group.tile, transmittance.dtype)
    return row, params, evaluate(params, corner, transmittance, static.config, direct_exponent)


def _chunk_number(static: Static, group: _Schedule, i) -> Int[Array, " tile"]:
    """Where the lists have the i-th chunk of each tile, the empty chunk past their end."""
    return jnp.where(i < group.num_chunks, group.first_chunk + i, static.empty_chunk)


def _forward(static: Static, table: Table, lists: TileLists):
    """((feature [height, width, channel], transmittance [height, width]), residuals)."""
    schedule = _schedule(lists)
    dtype, num_channels = table[0].dtype, len(table) - NUM_GEOMETRY
    _, _, min_transmittance = thresholds(static.config, dtype)

    def walk_group(kept, group: _Schedule):
        longest = group.num_chunks[0]  # lists are ranked by length

        def unfinished(carry):
            i, _, transmittance, _, _ = carry
            return (i < longest) & jnp.any(transmittance > min_transmittance)

        def walk_chunk(carry):
            i, kept, transmittance, left, feature = carry
            number = _chunk_number(static, group, i)
            kept = kept.at[number].set(transmittance, mode="promise_in_bounds")
            _, params, chunk = _read_chunk(static, table, lists, group, number, transmittance)
            feature += feature_sums(params.features, chunk.weight)
            behind = jnp.where(chunk.contributes, chunk.before * (1 - chunk.alpha), 1)
            left = jnp.minimum(left, jnp.min(behind, axis=1))
            return i + 1, kept, chunk.after, left, feature

        ones = jnp.ones((GROUP, PIXELS), dtype=dtype)
        feature = jnp.zeros((GROUP, num_channels, PIXELS), dtype=dtype)
        start = varying_as((table, lists), (jnp.int32(0), kept, ones, ones, feature))
        rounds, kept, _, left, feature = lax.while_loop(unfinished, walk_chunk, start)
        return kept, (rounds, left, feature)

    kept = full_after((lists, table), (static.empty_chunk + 1, PIXELS), 0, dtype)
    kept, (rounds, left, feature) = lax.scan(walk_group, kept, schedule)
    saved = _Saved(table, lists, schedule, kept, rounds, left)
    feature = _image_from_tiles(static, schedule, feature)
    transmittance = _image_from_tiles(static, schedule, left[:, :, None])[..., 0]
    return (feature, transmittance), saved


def _backward(static: Static, saved: _Saved, bars: tuple[Array, Array]) -> Table:
    """Gradient of the table, from those of features and transmittance."""
    feature_bar, transmittance_bar = bars
    table, lists, schedule = saved.table, saved.lists, saved.schedule
    feature_bar = _tiles_from_image(static, schedule, feature_bar)
    transmittance_bar = _tiles_from_image(static, schedule, transmittance_bar[..., None])[:, :, 0]

    def walk_group(table_bar, inputs):
        group, rounds, left, feature_bar, transmittance_bar = inputs
        corner = corners(static, group.tile, left.dtype)

        def walk_chunk(i, carry):
            table_bar, behind = carry
            number = _chunk_number(static, group, rounds - 1 - i)
            start = saved.chunk_transmittance.at[number].get(mode="promise_in_bounds")
            row, params, chunk = _read_chunk(static, table, lists, group, number, start)
            bar, behind = gradient(params, chunk, corner, feature_bar, behind)
            return table_bar.at[row].add(bar, mode="promise_in_bounds"), behind

        behind = left * transmittance_bar
        table_bar, _ = lax.fori_loop(0, rounds, walk_chunk, (table_bar, behind))
        return table_bar, None

    inputs = (schedule, saved.rounds, saved.transmittance, feature_bar, transmittance_bar)
    shape = (table[0].shape[0], len(table))
    table_bar = full_after((feature_bar, saved), shape, 0, table[0].dtype)
    table_bar, _ = lax.scan(walk_group, table_bar, inputs)
    return tuple(table_bar.T)


# ---- tiles and images -------------------------------------------------------------------------


def _image_from_tiles(static: Static, schedule: _Schedule, tiles):
    """[group, tile, channel, pixel] in schedule order to [height, width, channel]."""
    num_channels = tiles.shape[2]
    flat = tiles.reshape(-1, num_channels, PIXELS)
    ranked = jnp.zeros_like(flat, shape=(static.num_tiles, num_channels, PIXELS))
    ranked = ranked.at[schedule.tile.reshape(-1)].set(flat, mode="drop")
    return image_from_tiles(static, ranked)


def _tiles_from_image(static: Static, schedule: _Schedule, image):
    """[height, width, channel] to [group, tile, channel, pixel], zero outside of the image."""
    tiles = tiles_from_image(static, image)
    return tiles.at[schedule.tile].get(mode="fill", fill_value=0)


draw = both_modes(one_by_one(_forward), tangent_of(_forward, one_by_one), one_by_one(_backward))
