"""Tiled compositing in pure JAX: static shapes, derivative by recomputation.

Tiles are ranked by the length of their lists and taken in groups of similar length. A group walks
its lists front to back, one chunk of every list at a time: alphas of [tile, slot, pixel] at once,
transmittance as a running product (never as a sum of logarithms: the stop rule depends on its
rounding), and a dynamic trip count, so that unused capacity and saturated tiles cost nothing.

The forward pass keeps its inputs, the tile lists and the transmittance at which each chunk starts
(capacity x pixels / CHUNK numbers). The backward pass recomputes a chunk's alphas from these and
walks back to front, so that memory never grows as pixels x Gaussians. Forward mode walks once more,
too. Not differentiable twice; the order, skipping and stopping are constants. Under `vmap` scenes
are mapped one after another.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import custom_batching, lax
from jaxtyping import Array, Float, Int

from tttlrm_jax.config import RasterConfig
from tttlrm_jax.rasterize.compositing import (
    Composite,
    ScreenSplats,
    negative_log_falloff,
    thresholds,
)
from tttlrm_jax.rasterize.forward_mode import both_modes
from tttlrm_jax.rasterize.tile_lists import TILE, TileLists, build_tile_lists, tile_grid

CHUNK = 32  # slots of a tile's list taken at once
BLOCK = 8  # slots of a chunk multiplied one after another; divides CHUNK
GROUP = 16  # tiles walked together
_PIXELS = TILE * TILE
_LOG_OPACITY = 5  # column of the parameter table, behind mean and conic
_NUM_GEOMETRY = 6  # columns before the features


class _Static(NamedTuple):
    """What is known while tracing."""

    height: int
    width: int
    capacity: int
    config: RasterConfig

    @property
    def num_tiles(self) -> int:
        rows, columns = tile_grid(self.height, self.width)
        return rows * columns

    @property
    def num_groups(self) -> int:
        return -(-self.num_tiles // GROUP)

    @property
    def max_chunks(self) -> int:
        return self.capacity // CHUNK + self.num_tiles


class _Schedule(NamedTuple):
    """Tiles in groups; padding tiles have empty lists."""

    tile: Int[Array, "group tile"]  # tile index, row-major in the image
    start: Int[Array, "group tile"]  # first slot
    stop: Int[Array, "group tile"]  # slot after the last
    first_chunk: Int[Array, "group tile"]  # where the tile's chunk summaries are kept
    num_chunks: Int[Array, "group tile"]


class _Saved(NamedTuple):
    """Residuals of the backward pass."""

    table: Float[Array, "gaussian_plus_one parameter"]
    lists: TileLists
    schedule: _Schedule
    chunk_transmittance: Float[Array, "chunk pixel"]
    rounds: Int[Array, " group"]  # chunks walked before every pixel of the group had stopped
    transmittance: Float[Array, "group tile pixel"]


def composite(
    splats: ScreenSplats, height: int, width: int, config: RasterConfig, capacity: int
) -> Composite:
    """Front-to-back compositing with at most `capacity` Gaussian-tile intersections."""
    static = _Static(height, width, capacity, config)
    build: Any = custom_batching.sequential_vmap(
        functools.partial(build_tile_lists, height=height, width=width, capacity=capacity)
    )
    lists = build(lax.stop_gradient(splats))
    table = _parameter_table(splats)
    image: Any = _composite_table(static, table, lists)
    feature, transmittance = image
    return Composite(feature, transmittance, lists.num_dropped)


def _parameter_table(splats: ScreenSplats) -> Float[Array, "gaussian_plus_one parameter"]:
    """Columns: mean, conic, log opacity, features. The last row, for slots past the end of a list,
    and every Gaussian of opacity 0 have the log opacity -inf, hence alpha 0."""
    positive = splats.opacity > 0
    log_opacity = jnp.log(jnp.where(positive, splats.opacity, 1))
    log_opacity = jnp.where(positive, log_opacity, -jnp.inf)
    table = [splats.mean, splats.conic, log_opacity[:, None], splats.feature]
    table = jnp.concatenate(table, axis=1)
    nothing = jnp.zeros_like(table, shape=(1, table.shape[1])).at[0, _LOG_OPACITY].set(-jnp.inf)
    return jnp.concatenate([table, nothing])


def _forward_rule(static: _Static, table, lists: TileLists):
    return custom_batching.sequential_vmap(functools.partial(_forward, static))(table, lists)


def _tangent_rule(static: _Static, saved: _Saved, table_dot):
    tangent = custom_batching.sequential_vmap(functools.partial(_tangent, static))
    return tangent(saved.table, saved.lists, table_dot)


def _backward_rule(static: _Static, saved: _Saved, cotangents):
    backward = custom_batching.sequential_vmap(functools.partial(_backward, static))
    return backward(saved, *cotangents)


_composite_table = both_modes(_forward_rule, _tangent_rule, _backward_rule)


# ---- walking the lists ------------------------------------------------------------------------


def _schedule(static: _Static, lists: TileLists) -> _Schedule:
    """Ranks tiles by list length, so that a group's lists end at about the same chunk."""
    start, stop = lists.start[:-1], lists.start[1:]
    num_chunks = -(-(stop - start) // CHUNK)
    first_chunk = jnp.cumsum(num_chunks) - num_chunks
    order = jnp.argsort(-num_chunks, stable=True).astype(jnp.int32)
    padding = static.num_groups * GROUP - static.num_tiles

    def grouped(x, fill):
        return jnp.pad(x[order], (0, padding), constant_values=fill).reshape(-1, GROUP)

    tile = jnp.pad(order, (0, padding), constant_values=static.num_tiles).reshape(-1, GROUP)
    return _Schedule(
        tile, grouped(start, 0), grouped(stop, 0), grouped(first_chunk, 0), grouped(num_chunks, 0)
    )


class _Chunk(NamedTuple):
    """One chunk of each list of a group; slots past the end read the table's empty row."""

    row: Int[Array, "tile slot"]
    params: Float[Array, "tile slot parameter"]
    alpha: Float[Array, "tile slot pixel"]
    clamped: Array  # bool [tile, slot, pixel]
    before: Float[Array, "tile slot pixel"]  # transmittance in front of the slot
    contributes: Array  # bool [tile, slot, pixel]
    after: Float[Array, "tile pixel"]  # behind the whole chunk, stopped or not


def _read_chunk(static: _Static, table, lists, group: _Schedule, chunk, transmittance) -> _Chunk:
    """Evaluates chunk number `chunk` of a group that starts with `transmittance`."""
    max_alpha, min_alpha, min_transmittance = thresholds(static.config, table.dtype)
    slot = group.start[:, None] + chunk * CHUNK + lax.iota(jnp.int32, CHUNK)[None]
    row = jnp.where(
        slot < group.stop[:, None],
        lists.gaussian.at[slot].get(mode="clip"),
        table.shape[0] - 1,
    )
    params = table.at[row].get(mode="promise_in_bounds")
    pixel_x, pixel_y = _pixel_centres(static, group.tile, table.dtype)
    u, v, uu, uv, vv, log_opacity = (params[..., i, None] for i in range(_NUM_GEOMETRY))
    dx, dy = u - pixel_x[:, None], v - pixel_y[:, None]
    sigma = negative_log_falloff(dx, dy, uu, uv, vv)
    # One array, from which everything else is cheap: XLA:CPU recomputes what it fuses.
    raw = jnp.exp(jnp.where(sigma < 0, -jnp.inf, log_opacity - sigma))
    alpha = jnp.where(raw < min_alpha, 0, jnp.minimum(raw, max_alpha))
    before, after = _running_product(1 - alpha, transmittance)
    # A drawn slot takes at least min_alpha: after one that stops, rounding revives no other.
    contributes = (before * (1 - alpha) > min_transmittance) & (alpha > 0)
    return _Chunk(row, params, alpha, raw > max_alpha, before, contributes, after)


def _running_product(factor: Float[Array, "tile slot pixel"], start: Float[Array, "tile pixel"]):
    """(product of `start` and the factors in front of each slot, product of all).

    Slots are taken in blocks of BLOCK: few long operations instead of many short ones.
    """
    factor = factor.reshape(factor.shape[0], -1, BLOCK, factor.shape[-1])
    within = [jnp.ones_like(factor[:, :, 0])]
    for k in range(BLOCK):
        within.append(within[-1] * factor[:, :, k])
    blocks = [start]
    for k in range(factor.shape[1]):
        blocks.append(blocks[-1] * within[-1][:, k])
    before = jnp.stack(blocks[:-1], axis=1)[:, :, None] * jnp.stack(within[:-1], axis=2)
    return before.reshape(before.shape[0], -1, before.shape[-1]), blocks[-1]


def _sum_behind(term: Float[Array, "tile slot pixel"], end: Float[Array, "tile pixel"]):
    """(sum of `end` and the terms behind each slot, sum of all), in blocks as above."""
    term = term.reshape(term.shape[0], -1, BLOCK, term.shape[-1])
    within = [jnp.zeros_like(term[:, :, 0])]
    for k in reversed(range(BLOCK)):
        within.append(within[-1] + term[:, :, k])
    blocks = [end]
    for k in reversed(range(term.shape[1])):
        blocks.append(blocks[-1] + within[-1][:, k])
    behind = jnp.stack(blocks[-2::-1], axis=1)[:, :, None] + jnp.stack(within[-2::-1], axis=2)
    return behind.reshape(behind.shape[0], -1, behind.shape[-1]), blocks[-1]


def _pixel_centres(static: _Static, tile: Int[Array, " tile"], dtype):
    """(x, y) of the pixels of tiles, each [tile, pixel]."""
    _, columns = tile_grid(static.height, static.width)
    offset_x, offset_y = _tile_offsets(dtype)
    x = (tile % columns * TILE).astype(dtype)[:, None] + offset_x[None]
    y = (tile // columns * TILE).astype(dtype)[:, None] + offset_y[None]
    return x, y


def _tile_offsets(dtype):
    index = lax.iota(jnp.int32, _PIXELS)
    return (index % TILE).astype(dtype) + 0.5, (index // TILE).astype(dtype) + 0.5


def _forward(static: _Static, table, lists: TileLists):
    """((feature [height, width, channel], transmittance [height, width]), residuals)."""
    schedule = _schedule(static, lists)
    _, _, min_transmittance = thresholds(static.config, table.dtype)
    num_channels = table.shape[1] - _NUM_GEOMETRY

    def walk_group(kept, group: _Schedule):
        longest = group.num_chunks[0]  # lists are ranked by length

        def unfinished(carry):
            chunk, _, transmittance, _, _ = carry
            return (chunk < longest) & jnp.any(transmittance > min_transmittance)

        def walk_chunk(carry):
            chunk, kept, transmittance, left, feature = carry
            where = jnp.where(
                chunk < group.num_chunks, group.first_chunk + chunk, static.max_chunks
            )
            kept = kept.at[where].set(transmittance, mode="drop")
            c = _read_chunk(static, table, lists, group, chunk, transmittance)
            weight = jnp.where(c.contributes, c.before * c.alpha, 0)
            feature += jnp.einsum("bkd,bkp->bdp", c.params[..., _NUM_GEOMETRY:], weight)
            behind = jnp.where(c.contributes, c.before * (1 - c.alpha), 1)
            left = jnp.minimum(left, jnp.min(behind, axis=1))
            return chunk + 1, kept, c.after, left, feature

        ones = jnp.ones((GROUP, _PIXELS), dtype=table.dtype)
        feature = jnp.zeros((GROUP, num_channels, _PIXELS), dtype=table.dtype)
        rounds, kept, _, left, feature = lax.while_loop(
            unfinished, walk_chunk, (jnp.int32(0), kept, ones, ones, feature)
        )
        return kept, (rounds, left, feature)

    kept = jnp.zeros((static.max_chunks, _PIXELS), dtype=table.dtype)
    kept, (rounds, left, feature) = lax.scan(walk_group, kept, schedule)
    saved = _Saved(table, lists, schedule, kept, rounds, left)
    feature = _image_from_tiles(static, schedule, feature)
    transmittance = _image_from_tiles(static, schedule, left[:, :, None])[..., 0]
    return (feature, transmittance), saved


def _tangent(static: _Static, table, lists: TileLists, table_dot):
    """Derivative of the images of `_forward` along `table_dot`: a second walk, nothing kept."""
    return jax.jvp(lambda table: _forward(static, table, lists)[0], (table,), (table_dot,))[1]


def _backward(static: _Static, saved: _Saved, feature_bar, transmittance_bar):
    """Gradient of the table: [gaussian + 1, parameter]."""
    table, lists, schedule = saved.table, saved.lists, saved.schedule
    feature_bar = _tiles_from_image(static, schedule, feature_bar)
    transmittance_bar = _tiles_from_image(static, schedule, transmittance_bar[..., None])[:, :, 0]

    def walk_group(table_bar, inputs):
        group, rounds, left, feature_bar, transmittance_bar = inputs

        def walk_chunk(i, carry):
            table_bar, behind = carry
            chunk = rounds - 1 - i
            where = jnp.where(chunk < group.num_chunks, group.first_chunk + chunk, 0)
            start = saved.chunk_transmittance.at[where].get(mode="promise_in_bounds")
            c = _read_chunk(static, table, lists, group, chunk, start)
            params_bar, behind = _chunk_gradient(static, c, group.tile, feature_bar, behind)
            return table_bar.at[c.row].add(params_bar, mode="promise_in_bounds"), behind

        behind = left * transmittance_bar
        table_bar, _ = lax.fori_loop(0, rounds, walk_chunk, (table_bar, behind))
        return table_bar, None

    inputs = (schedule, saved.rounds, saved.transmittance, feature_bar, transmittance_bar)
    table_bar, _ = lax.scan(walk_group, jnp.zeros_like(table), inputs)
    return table_bar


def _chunk_gradient(static: _Static, c: _Chunk, tile, feature_bar, behind):
    """(gradient of the chunk's parameters, `behind` in front of the chunk).

    `behind` [tile, pixel] is what the loss gains from everything behind the chunk: the sum of
    T alpha (feature . feature_bar) plus final transmittance times its cotangent. A slot's alpha
    has the gradient T (feature . feature_bar) - (gain behind the slot) / (1 - alpha).
    """
    feature = c.params[..., _NUM_GEOMETRY:]
    gain = jnp.einsum("bkd,bdp->bkp", feature, feature_bar)
    weight = jnp.where(c.contributes, c.before * c.alpha, 0)
    behind_slot, behind = _sum_behind(weight * gain, behind)
    alpha_bar = c.before * gain - behind_slot / (1 - c.alpha)
    # alpha = exp(log_opacity - sigma).
    raw_bar = jnp.where(c.contributes & ~c.clamped, alpha_bar * c.alpha, 0)

    moments = _moments(static, raw_bar, tile, c.params)
    geometry = _geometry_gradient(c.params, moments)
    features = jnp.einsum("bkp,bdp->bkd", weight, feature_bar)
    return jnp.concatenate([geometry, features], axis=-1), behind


def _moments(static: _Static, raw_bar, tile, params):
    """Sums over pixels of raw_bar times 1, dx, dy, dx^2, dx dy, dy^2; each [tile, slot]."""
    pixel_x, pixel_y = _pixel_centres(static, tile, params.dtype)
    centre_x, centre_y = pixel_x[:, :1] + (TILE - 1) / 2, pixel_y[:, :1] + (TILE - 1) / 2
    offset_x, offset_y = (x - TILE / 2 for x in _tile_offsets(params.dtype))
    monomials = jnp.stack(
        [jnp.ones_like(offset_x), offset_x, offset_y,
         offset_x * offset_x, offset_x * offset_y, offset_y * offset_y], axis=-1,
    )  # fmt: skip
    s, sx, sy, sxx, sxy, syy = jnp.moveaxis(jnp.einsum("bkp,pm->bkm", raw_bar, monomials), -1, 0)
    u, v = params[..., 0] - centre_x, params[..., 1] - centre_y
    dx, dy = u * s - sx, v * s - sy
    dxx = u * dx - u * sx + sxx
    dxy = u * dy - v * sx + sxy
    dyy = v * dy - v * sy + syy
    return s, dx, dy, dxx, dxy, dyy


def _geometry_gradient(params, moments):
    """[tile, slot, mean conic log_opacity]; sigma = (uu dx^2 + vv dy^2) / 2 + uv dx dy."""
    s, dx, dy, dxx, dxy, dyy = moments
    uu, uv, vv = (params[..., i] for i in range(2, 5))
    columns = (
        -(uu * dx + uv * dy), -(uv * dx + vv * dy), -0.5 * dxx, -dxy, -0.5 * dyy, s
    )  # fmt: skip
    return jnp.stack(columns, axis=-1)


# ---- tiles and images -------------------------------------------------------------------------


def _image_from_tiles(static: _Static, schedule: _Schedule, tiles):
    """[group, tile, channel, pixel] in schedule order to [height, width, channel]."""
    rows, columns = tile_grid(static.height, static.width)
    num_channels = tiles.shape[2]
    flat = tiles.reshape(-1, num_channels, _PIXELS)
    ranked = jnp.zeros_like(flat, shape=(static.num_tiles, num_channels, _PIXELS))
    ranked = ranked.at[schedule.tile.reshape(-1)].set(flat, mode="drop")
    image = ranked.reshape(rows, columns, num_channels, TILE, TILE).transpose(0, 3, 1, 4, 2)
    image = image.reshape(rows * TILE, columns * TILE, num_channels)
    return image[: static.height, : static.width]


def _tiles_from_image(static: _Static, schedule: _Schedule, image):
    """[height, width, channel] to [group, tile, channel, pixel], zero outside of the image."""
    rows, columns = tile_grid(static.height, static.width)
    num_channels = image.shape[-1]
    bottom, right = rows * TILE - static.height, columns * TILE - static.width
    padded = jnp.pad(image, ((0, bottom), (0, right), (0, 0)))
    tiles = padded.reshape(rows, TILE, columns, TILE, num_channels).transpose(0, 2, 4, 1, 3)
    tiles = tiles.reshape(static.num_tiles, num_channels, _PIXELS)
    return tiles.at[schedule.tile].get(mode="fill", fill_value=0)
