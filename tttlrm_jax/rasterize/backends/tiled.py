"""Tiled compositing in pure JAX: static shapes, derivative by recomputation.

The lists of tiles are walked front to back, a chunk at a time, until no pixel is open: tile after
tile in one function of one thread (see `one_kernel`), whose arrays fit the first-level cache.

The forward pass keeps its inputs, the tile lists and the transmittance at which each chunk starts
(capacity x pixels / CHUNK numbers). The backward pass recomputes a chunk's alphas from these and
walks back to front, so that memory never grows as pixels x Gaussians. Forward mode walks once more,
too. Not differentiable twice; the order, skipping and stopping are constants. Under `vmap` scenes
are mapped one after another.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from tttlrm_jax.rasterize.backends.chunks import geometry_gradient, shifted_moments
from tttlrm_jax.rasterize.backends.tables import (
    NUM_GEOMETRY,
    Table,
    composite_lists,
    image_from_tiles,
    lists_one_by_one,
    tangent_of,
    tiles_from_image,
)
from tttlrm_jax.rasterize.columns import join_columns, split_columns
from tttlrm_jax.rasterize.compositing import (
    Composite,
    ScreenSplats,
    negative_log_falloff,
    thresholds,
)
from tttlrm_jax.rasterize.tile_lists import CHUNK, TILE, Static, TileLists
from tttlrm_jax.rasterize.transforms.forward_mode import both_modes
from tttlrm_jax.rasterize.transforms.manual_axes import varying_as
from tttlrm_jax.rasterize.transforms.one_kernel import at, one_by_one, one_kernel, put

PIXELS = TILE * TILE
Lists = tuple[Array, Array, Array]  # gaussian, first_chunk, num_chunks of TileLists
Light = Float[Array, "tile pixel"]  # see `_pass_slots`
_FEW_CHANNELS = 8  # up to which a sum over them is written out


class Drawn(NamedTuple):
    """What drawing a part of the tiles leaves, and what it has to know again."""

    feature: Float[Array, "tile channel pixel"]
    light: Float[Array, "tile pixel"]  # see `_pass_slots`
    rounds: Int[Array, " tile"]  # chunks walked before every pixel had stopped
    start: Float[Array, "chunk pixel"]  # light in front of each chunk of these tiles


class _Saved(NamedTuple):
    """Residuals of the backward pass."""

    table: Table
    lists: TileLists
    light: Float[Array, "tile pixel"]
    rounds: Int[Array, " tile"]
    start: Float[Array, "chunk pixel"]


class _Chunk(NamedTuple):
    """Parameters of the Gaussians in a chunk, as in a table, and the pixels of its tile."""

    row: Int[Array, " slot"]
    params: Float[Array, "slot column"]
    x: Float[Array, " pixel"]
    y: Float[Array, " pixel"]

    def column(self, number: int) -> Float[Array, "slot 1"]:
        return self.params[:, number, None]


def composite(splats: ScreenSplats, static: Static) -> Composite:
    """Front-to-back compositing with at most `capacity` candidate Gaussian-tile intersections."""
    return composite_lists(draw, static, splats, lists_one_by_one(static, splats))


# ---- chunks of one tile -----------------------------------------------------------------------


def _read_chunk(static: Static, rows, gaussian, tile, number) -> _Chunk:
    row = at(gaussian, number)
    index, columns = lax.iota(jnp.int32, PIXELS), static.grid[1]
    x = (tile % columns * TILE + index % TILE).astype(rows.dtype) + 0.5
    y = (tile // columns * TILE + index // TILE).astype(rows.dtype) + 0.5
    return _Chunk(row, rows.at[row].get(mode="promise_in_bounds"), x, y)


def _raw_alpha(chunk: _Chunk) -> Float[Array, "slot pixel"]:
    """Opacity times falloff, 0 where rounding makes sigma negative."""
    mean_x, mean_y, *conic, log_opacity = (chunk.column(i) for i in range(NUM_GEOMETRY))
    sigma = negative_log_falloff(mean_x - chunk.x[None], mean_y - chunk.y[None], *conic)
    return jnp.exp(jnp.where(sigma < 0, -jnp.inf, log_opacity - sigma))


def _alpha(static: Static, raw):
    max_alpha, min_alpha, _ = thresholds(static.config, raw.dtype)
    return jnp.where(raw < min_alpha, 0, jnp.minimum(raw, max_alpha))


def _pass_slots(static: Static, raw, light: Float[Array, " pixel"]):
    """(weight [slot, pixel], light behind the chunk).

    Light is the transmittance, negative once a pixel has stopped: by a slot that would have left
    next to nothing, which counts no more than all behind it.
    """
    _, _, min_transmittance = thresholds(static.config, raw.dtype)

    def pass_slot(slot, carry):
        light, weight = carry
        alpha = _alpha(static, at(raw, slot))
        after = light * (1 - alpha)
        contributes = after > min_transmittance
        weight = put(weight, jnp.where(contributes, light * alpha, 0), slot)
        return jnp.where(contributes, after, -jnp.abs(light)), weight

    start = varying_as(raw, (light, jnp.zeros_like(raw)))
    light, weight = lax.fori_loop(0, CHUNK, pass_slot, start)
    return weight, light


def _add_features(chunk: _Chunk, weight, feature: Float[Array, "channel pixel"]):
    """`feature` and the sum over slots of weight times theirs."""

    def add_slot(slot, feature):
        new = at(chunk.params, slot)[NUM_GEOMETRY:, None] * at(weight, slot)[None]
        return feature + new

    return lax.fori_loop(0, CHUNK, add_slot, feature)


def _gain(feature: Float[Array, " channel"], feature_bar: Float[Array, "channel pixel"]):
    """feature . feature_bar, [pixel]."""
    if len(feature) <= _FEW_CHANNELS:
        terms = [f * bar for f, bar in zip(feature, feature_bar, strict=True)]
        return functools.reduce(jnp.add, terms)

    def add_channel(channel, gain):
        return gain + at(feature, channel) * at(feature_bar, channel)

    return lax.fori_loop(1, len(feature), add_channel, feature[0] * feature_bar[0])


# ---- passes -----------------------------------------------------------------------------------


@one_kernel
def draw_tiles(static: Static, part: Int[Array, ""], rows, lists: Lists) -> Drawn:
    """Draws the tiles part, part + parts, ... from the rows of a table."""
    gaussian, first_chunk, num_chunks = lists
    num_channels, dtype = rows.shape[1] - NUM_GEOMETRY, rows.dtype
    _, _, min_transmittance = thresholds(static.config, dtype)

    def draw_tile(index, drawn: Drawn):
        tile = _tile(static, part, index)
        first, count = at(first_chunk, tile), at(num_chunks, tile)

        def unfinished(carry):
            i, light, _, _ = carry
            return (i < count) & jnp.any(light > min_transmittance)

        def draw_chunk(carry):
            i, light, feature, start = carry
            start = put(start, light, first + i)
            chunk = _read_chunk(static, rows, gaussian, tile, first + i)
            weight, light = _pass_slots(static, _raw_alpha(chunk), light)
            return i + 1, light, _add_features(chunk, weight, feature), start

        dark = (jnp.int32(0), jnp.ones(PIXELS, dtype), jnp.zeros((num_channels, PIXELS), dtype))
        dark = varying_as((rows, gaussian), (*dark, drawn.start))
        rounds, light, feature, start = lax.while_loop(unfinished, draw_chunk, dark)
        new = (feature, light, rounds)
        feature, light, rounds = (
            put(all_, one, index) for all_, one in zip(drawn[:3], new, strict=True)
        )
        return Drawn(feature, light, rounds, start)

    most_tiles = -(-static.num_tiles // static.parts)
    nothing = Drawn(
        jnp.zeros((most_tiles, num_channels, PIXELS), dtype),
        jnp.zeros((most_tiles, PIXELS), dtype),
        jnp.zeros(most_tiles, jnp.int32),
        jnp.zeros((static.empty_chunk + 1, PIXELS), dtype),
    )
    nothing = varying_as((rows, gaussian), nothing)
    return lax.fori_loop(0, _num_tiles(static, part), draw_tile, nothing)


def _tile(static: Static, part, index):
    """The tile of a part; neighbours are of different parts, so that these take equally long."""
    return index if static.parts == 1 else index * static.parts + part


def _num_tiles(static: Static, part):
    if static.parts == 1:
        return static.num_tiles
    return (static.num_tiles - part + static.parts - 1) // static.parts


def join_parts(static: Static, parts: Sequence[Drawn]) -> tuple[tuple[Array, Array], Light]:
    """(feature [height, width, channel] and transmittance [height, width], light behind all)."""

    def joined(arrays: list[Array]) -> Array:
        tiles = jnp.stack(arrays, axis=1) if len(arrays) > 1 else arrays[0]
        return tiles.reshape(-1, *arrays[0].shape[1:])[: static.num_tiles]

    feature, light = joined([part.feature for part in parts]), joined([p.light for p in parts])
    transmittance = image_from_tiles(static, jnp.abs(light)[:, None])[..., 0]
    return (image_from_tiles(static, feature), transmittance), light


def _forward(static: Static, table: Table, lists: TileLists):
    """((feature [height, width, channel], transmittance [height, width]), residuals)."""
    drawn = draw_tiles(static, jnp.int32(0), join_columns(*table), lists_of(lists))
    image, light = join_parts(static, [drawn])
    return image, _Saved(table, lists, light, drawn.rounds, drawn.start)


def lists_of(lists: TileLists) -> Lists:
    """What the passes read of lists."""
    return lists.gaussian, lists.first_chunk, lists.num_chunks


@one_kernel
def pull_tiles(static: Static, part: Int[Array, ""], rows, lists, walked, bars):
    """Gradient of the rows from a part of the tiles, of which `walked` are rounds and start.

    `bars`: of the features, [tile, channel, pixel], and [tile, pixel] what the loss gains from all
    behind the lists, final transmittance times its cotangent.
    """
    (gaussian, first_chunk), (rounds, start) = lists, walked

    def pull_tile(index, rows_bar):
        tile = _tile(static, part, index)
        first, count = at(first_chunk, tile), at(rounds, index)
        feature_bar, behind = (at(bar, tile) for bar in bars)

        def pull_chunk(i, carry):
            rows_bar, behind = carry
            number = first + count - 1 - i
            chunk = _read_chunk(static, rows, gaussian, tile, number)
            slot_bars, behind = _pull_chunk(static, chunk, at(start, number), feature_bar, behind)

            def add_slot(slot, rows_bar):
                row = at(chunk.row, slot)
                return put(rows_bar, at(rows_bar, row) + at(slot_bars, slot), row)

            return lax.fori_loop(0, CHUNK, add_slot, rows_bar), behind

        return lax.fori_loop(0, count, pull_chunk, (rows_bar, behind))[0]

    nothing = varying_as((rows, gaussian, bars), jnp.zeros_like(rows))
    return lax.fori_loop(0, _num_tiles(static, part), pull_tile, nothing)


def _pull_chunk(static: Static, chunk: _Chunk, light, feature_bar, behind):
    """(gradient [slot, column], `behind` in front of the chunk).

    `behind` is what the loss gains from everything behind: the sum of weight (feature .
    feature_bar), and of the final transmittance times its cotangent. A slot's alpha has the
    gradient T (feature . feature_bar) - (gain behind the slot) / (1 - alpha).
    """
    max_alpha, _, _ = thresholds(static.config, light.dtype)
    raw = _raw_alpha(chunk)
    weight, _ = _pass_slots(static, raw, light)

    def pull_slot(i, carry):
        behind, raw_bar = carry
        slot = CHUNK - 1 - i
        raw_one, weight_one, params = at(raw, slot), at(weight, slot), at(chunk.params, slot)
        gain = weight_one * _gain(params[NUM_GEOMETRY:], feature_bar)
        alpha = _alpha(static, raw_one)
        # alpha = exp(log_opacity - sigma), so that its gradient times alpha is that of the exponent
        bar = gain - behind * (alpha / (1 - alpha))
        bar = jnp.where((weight_one > 0) & (raw_one <= max_alpha), bar, 0)
        return behind + gain, put(raw_bar, bar, slot)

    start = varying_as((raw, feature_bar), (behind, jnp.zeros_like(raw)))
    behind, raw_bar = lax.fori_loop(0, CHUNK, pull_slot, start)
    *moments, features = _sums_over_pixels(raw_bar, weight, feature_bar)
    mean_x, mean_y, *conic = (chunk.params[:, i] for i in range(NUM_GEOMETRY - 1))
    middle = TILE / 2 - 0.5
    moments = shifted_moments(mean_x - chunk.x[0] - middle, mean_y - chunk.y[0] - middle, moments)
    return jnp.stack([*geometry_gradient(conic, moments), *features], axis=-1), behind


def _sums_over_pixels(raw_bar, weight, feature_bar):
    """Sums over pixels: of raw_bar times 1, x, y, x^2, xy, y^2 about the middle of the tile, each
    [slot], and of weight times feature_bar, [channel, slot].

    With slots along the last axis: XLA vectorises no sum along it.
    """
    raw_bar, weight = raw_bar.T, weight.T
    feature_bar = feature_bar.reshape(-1, TILE, TILE)
    offset = [column - (TILE - 1) / 2 for column in range(TILE)]

    def add_row(row, sums):
        bars = lax.dynamic_slice_in_dim(raw_bar, row * TILE, TILE)
        weights = lax.dynamic_slice_in_dim(weight, row * TILE, TILE)
        by_pixel = lax.dynamic_index_in_dim(feature_bar, row, axis=1, keepdims=False)
        y = row.astype(bars.dtype) - (TILE - 1) / 2
        one, x, xx = (
            functools.reduce(jnp.add, [u**power * bar for u, bar in zip(offset, bars, strict=True)])
            for power in range(3)
        )
        features = functools.reduce(
            jnp.add, [u[:, None] * w[None] for u, w in zip(by_pixel.T, weights, strict=True)]
        )
        new = (one, x, y * one, xx, y * x, y * y * one, features)
        return jax.tree.map(jnp.add, sums, new)

    nothing = (
        *(jnp.zeros_like(raw_bar[0]),) * 6,
        jnp.zeros((len(feature_bar), CHUNK), weight.dtype),
    )
    return lax.fori_loop(0, TILE, add_row, varying_as((raw_bar, feature_bar), nothing))


def bars_of_tiles(static: Static, light: Light, bars: tuple[Array, Array]):
    """`bars` of `pull_tiles`, from the gradients of the picture's features and transmittance."""
    feature_bar, transmittance_bar = bars
    behind = tiles_from_image(static, transmittance_bar[..., None])[:, 0] * jnp.abs(light)
    return tiles_from_image(static, feature_bar), behind


def _backward(static: Static, saved: _Saved, bars: tuple[Array, Array]) -> Table:
    """Gradient of the table, from those of features and transmittance."""
    rows_bar = pull_tiles(
        static, jnp.int32(0), join_columns(*saved.table), lists_of(saved.lists)[:2],
        (saved.rounds, saved.start), bars_of_tiles(static, saved.light, bars),
    )  # fmt: skip
    return split_columns(rows_bar)


draw = both_modes(one_by_one(_forward), tangent_of(_forward, one_by_one), one_by_one(_backward))
