"""Tiled compositing in pure JAX: static shapes, derivative by recomputation.

The lists of tiles are walked front to back, a chunk at a time, until no pixel is open. Tiles are
split into strands of about as many chunks each, which run side by side; their number does not
depend on the machine, nor do sums.

The forward pass keeps its inputs, the tile lists and the transmittance at which each chunk starts
(capacity x pixels / CHUNK numbers). The backward pass recomputes a chunk's alphas from these and
walks back to front, so that memory never grows as pixels x Gaussians. Forward mode walks once more,
too. Not differentiable twice; the order, skipping and stopping are constants. Under `vmap` scenes
are mapped one after another.
"""

import functools
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
    one_by_one,
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
from tttlrm_jax.rasterize.forward_mode import both_modes
from tttlrm_jax.rasterize.manual_axes import varying_as
from tttlrm_jax.rasterize.one_kernel import at, one_kernel, put
from tttlrm_jax.rasterize.tile_lists import CHUNK, TILE, Static, TileLists

STRANDS = 4  # run side by side where there are as many cores
_TILES_PER_STRAND = 32  # at least: small images are not worth compiling for several
PIXELS = TILE * TILE
_FEW_CHANNELS = 8  # up to which a sum over them is written out


class _Strand(NamedTuple):
    """Consecutive tiles, and the first chunk of their lists."""

    begin: Int[Array, ""]
    end: Int[Array, ""]
    chunk: Int[Array, ""]


class _Drawn(NamedTuple):
    """What drawing leaves in tiles; zero in those of other strands."""

    feature: Float[Array, "tile channel pixel"]
    light: Float[Array, "tile pixel"]  # see `_pass_slots`
    rounds: Int[Array, " tile"]  # chunks walked before every pixel had stopped


class _Saved(NamedTuple):
    """Residuals of the backward pass."""

    table: Table
    lists: TileLists
    starts: tuple[Float[Array, "chunk pixel"], ...]  # light in front of the chunks of each strand
    light: Float[Array, "tile pixel"]
    rounds: Int[Array, " tile"]


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


# ---- strands ----------------------------------------------------------------------------------


def _strands(static: Static, lists: TileLists) -> list[_Strand]:
    count = min(max(static.num_tiles // _TILES_PER_STRAND, 1), STRANDS)
    total = lists.first_chunk[-1] + lists.num_chunks[-1]
    marks = lax.iota(jnp.int32, count + 1) * (-(-total // count))
    bounds = jnp.sum(lists.first_chunk[None] < marks[:, None], axis=1, dtype=jnp.int32)
    bounds = bounds.at[-1].set(static.num_tiles)
    chunks = lists.first_chunk[jnp.minimum(bounds, static.num_tiles - 1)]
    return [_Strand(bounds[i], bounds[i + 1], chunks[i]) for i in range(count)]


def _most_chunks(static: Static, num_strands: int, num_gaussians: int) -> int:
    """In one strand: its share, and the rest of the list that passes over the end of it."""
    share, longest = static.empty_chunk // num_strands + 1, -(-num_gaussians // CHUNK)
    return min(share + longest, static.empty_chunk + 1)


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
def _draw_strand(static: tuple[Static, int], rows, lists: TileLists, strand: _Strand):
    """(what was drawn, light in front of the strand's chunks)."""
    static, most_chunks = static
    num_channels, dtype = rows.shape[1] - NUM_GEOMETRY, rows.dtype
    _, _, min_transmittance = thresholds(static.config, dtype)

    def draw_tile(tile, carry):
        drawn, starts = carry
        first, count = at(lists.first_chunk, tile), at(lists.num_chunks, tile)

        def unfinished(carry):
            i, light, _, _ = carry
            return (i < count) & jnp.any(light > min_transmittance)

        def draw_chunk(carry):
            i, light, feature, starts = carry
            starts = put(starts, light, first + i - strand.chunk)
            chunk = _read_chunk(static, rows, lists.gaussian, tile, first + i)
            weight, light = _pass_slots(static, _raw_alpha(chunk), light)
            return i + 1, light, _add_features(chunk, weight, feature), starts

        start = (jnp.int32(0), jnp.ones(PIXELS, dtype), jnp.zeros((num_channels, PIXELS), dtype))
        start = varying_as((rows, lists), (*start, starts))
        rounds, light, feature, starts = lax.while_loop(unfinished, draw_chunk, start)
        new = _Drawn(feature, light, rounds)
        return jax.tree.map(lambda all_, one: put(all_, one, tile), drawn, new), starts

    nothing = _Drawn(
        jnp.zeros((static.num_tiles, num_channels, PIXELS), dtype),
        jnp.zeros((static.num_tiles, PIXELS), dtype),
        jnp.zeros(static.num_tiles, jnp.int32),
    )
    start = varying_as((rows, lists), (nothing, jnp.zeros((most_chunks, PIXELS), dtype)))
    return lax.fori_loop(strand.begin, strand.end, draw_tile, start)


def _forward(static: Static, table: Table, lists: TileLists):
    """((feature [height, width, channel], transmittance [height, width]), residuals)."""
    rows = join_columns(*table)
    strands = _strands(static, lists)
    most_chunks = _most_chunks(static, len(strands), rows.shape[0] - 1)
    parts = [_draw_strand((static, most_chunks), rows, lists, strand) for strand in strands]
    drawn, starts = zip(*parts, strict=True)
    drawn = jax.tree.map(lambda *parts: functools.reduce(jnp.add, parts), *drawn)
    saved = _Saved(table, lists, starts, drawn.light, drawn.rounds)
    feature = image_from_tiles(static, drawn.feature)
    transmittance = image_from_tiles(static, jnp.abs(drawn.light)[:, None])[..., 0]
    return (feature, transmittance), saved


@one_kernel
def _pull_strand(static: Static, rows, starts, saved, strand: _Strand, feature_bar, behind):
    """Gradient of the rows by what the strand draws.

    `feature_bar` [tile, channel, pixel]; `behind` [tile, pixel] is what the loss gains from all
    behind the lists: final transmittance times its cotangent.
    """
    lists, rounds = saved

    def pull_tile(tile, rows_bar):
        first, count = at(lists.first_chunk, tile), at(rounds, tile)
        bar = at(feature_bar, tile)

        def pull_chunk(i, carry):
            rows_bar, behind = carry
            number = first + count - 1 - i
            chunk = _read_chunk(static, rows, lists.gaussian, tile, number)
            bars, behind = _pull_chunk(
                static, chunk, at(starts, number - strand.chunk), bar, behind
            )

            def add_slot(slot, rows_bar):
                row = at(chunk.row, slot)
                return put(rows_bar, at(rows_bar, row) + at(bars, slot), row)

            return lax.fori_loop(0, CHUNK, add_slot, rows_bar), behind

        return lax.fori_loop(0, count, pull_chunk, (rows_bar, at(behind, tile)))[0]

    start = varying_as((rows, lists, feature_bar, behind), jnp.zeros_like(rows))
    return lax.fori_loop(strand.begin, strand.end, pull_tile, start)


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


def _backward(static: Static, saved: _Saved, bars: tuple[Array, Array]) -> Table:
    """Gradient of the table, from those of features and transmittance."""
    feature_bar, transmittance_bar = bars
    feature_bar = tiles_from_image(static, feature_bar)
    behind = tiles_from_image(static, transmittance_bar[..., None])[:, 0] * jnp.abs(saved.light)
    rows = join_columns(*saved.table)
    parts = [
        _pull_strand(static, rows, starts, (saved.lists, saved.rounds), strand, feature_bar, behind)
        for starts, strand in zip(saved.starts, _strands(static, saved.lists), strict=True)
    ]
    return split_columns(functools.reduce(jnp.add, parts))


draw = both_modes(one_by_one(_forward), tangent_of(_forward, one_by_one), one_by_one(_backward))
