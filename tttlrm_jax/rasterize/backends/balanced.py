"""Tiled compositing for accelerators: equal chunks of all lists side by side, as matrix products.

Chunks are taken in batches of fixed size, whatever tile (or scene) they belong to, so that a
crowded tile does not hold up the others. A first pass multiplies up each chunk's transmittance; an
exclusive product along each tile's chunks gives the transmittance in front of them; a second pass
composes the chunks in front of which some pixel is still open, and adds them up by tile. The
backward pass repeats the second one, for what each chunk contributes to the loss and, behind the
sums of that, for gradients.

Memory is that of one batch and three numbers for each pixel of a chunk, hence capacity x pixels of
a tile / CHUNK. First derivatives only, in both modes. Scenes mapped with `vmap` become tiles of one
large problem.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import custom_batching, lax
from jaxtyping import Array, Bool, Float, Int

from tttlrm_jax.rasterize.backends.chunks import evaluate, feature_sums, gradient
from tttlrm_jax.rasterize.backends.tables import (
    NUM_GEOMETRY,
    Table,
    composite_lists,
    corners,
    image_from_tiles,
    read_rows,
    tangent_of,
    tiles_from_image,
)
from tttlrm_jax.rasterize.compositing import Composite, ScreenSplats, thresholds
from tttlrm_jax.rasterize.tile_lists import CHUNK, Static, TileLists, build_tile_lists
from tttlrm_jax.rasterize.transforms.forward_mode import both_modes
from tttlrm_jax.rasterize.transforms.manual_axes import varying_as

BATCH = 2**22  # slots x pixels evaluated at once: arrays of 16 MiB in float32


class _Work(NamedTuple):
    """Chunks of all scenes, numbered through."""

    row: Int[Array, "chunk slot"]  # in the joint table of all scenes
    tile: Int[Array, " chunk"]  # numbered through all scenes
    first: Bool[Array, " chunk"]  # whether it is the first of its tile
    used: Bool[Array, " chunk"]


class _Saved(NamedTuple):
    """Residuals of the backward pass."""

    table: Table
    lists: TileLists
    in_front: Float[Array, "scene chunk pixel"]  # transmittance
    left: Float[Array, "scene tile pixel"]  # transmittance behind everything


def composite(splats: ScreenSplats, static: Static) -> Composite:
    """Front-to-back compositing with at most `capacity` candidate Gaussian-tile intersections."""
    lists = build_tile_lists(lax.stop_gradient(splats), static)
    return composite_lists(draw, static, splats, lists)


def _over_scenes(function: Callable) -> Callable:
    """From `function(static, *arrays)` with a leading scene axis to one of a single scene, under
    any number of `vmap`: mapped scenes are joined along that axis."""

    def many(static: Static, *arrays):
        run = custom_batching.custom_vmap(functools.partial(function, static))

        @run.def_vmap
        def _(size, is_batched, *arrays):
            def join(x, batched):
                x = x if batched else jnp.broadcast_to(x, (size, *x.shape))
                return x.reshape(-1, *x.shape[2:])

            out = many(static, *jax.tree.map(join, arrays, tuple(is_batched)))
            out = jax.tree.map(lambda x: x.reshape(size, -1, *x.shape[1:]), out)
            return out, jax.tree.map(lambda _: True, out)

        return run(*arrays)

    def one(static: Static, *arrays):
        out = many(static, *jax.tree.map(lambda x: x[None], arrays))
        return jax.tree.map(lambda x: x[0], out)

    return one


# ---- chunks -----------------------------------------------------------------------------------


def _work(lists: TileLists, num_rows: int) -> _Work:
    """Joins the lists of all scenes, whose tables have `num_rows` each."""
    num_scenes, num_chunks, _ = lists.gaussian.shape
    num_tiles = lists.first_chunk.shape[1]
    scene = lax.iota(jnp.int32, num_scenes)
    number = lax.iota(jnp.int32, num_chunks)
    find = jax.vmap(lambda first: jnp.searchsorted(first, number, side="right"))
    tile = find(lists.first_chunk).astype(jnp.int32) - 1
    first = number[None] == jnp.take_along_axis(lists.first_chunk, tile, axis=1)
    used = number[None] < lists.first_chunk[:, -1:] + lists.num_chunks[:, -1:]
    row = lists.gaussian + (scene * num_rows)[:, None, None]
    return _Work(
        row.reshape(-1, row.shape[-1]),
        (tile + (scene * num_tiles)[:, None]).reshape(-1),
        first.reshape(-1),
        used.reshape(-1),
    )


def _in_batches(static: Static, table: Table, wanted, step: Callable, carry):
    """`carry = step(numbers of chunks, carry)`, a batch of `wanted` [chunk] ones at a time; the
    last batch is filled up with the last chunk, which is empty."""
    num_chunks = wanted.shape[0]
    batch = min(max(BATCH // (CHUNK * static.num_pixels), 1), num_chunks)
    position = jnp.where(wanted, jnp.cumsum(wanted, dtype=jnp.int32) - 1, num_chunks + batch)
    number = jnp.full(num_chunks + batch, num_chunks - 1, jnp.int32)
    number = number.at[position].set(lax.iota(jnp.int32, num_chunks), mode="drop")
    num_batches = (jnp.sum(wanted, dtype=jnp.int32) + batch - 1) // batch

    def body(i, carry):
        return step(lax.dynamic_slice(number, (i * batch,), (batch,)), carry)

    return lax.fori_loop(0, num_batches, body, varying_as(table, carry))


def _evaluate(static: Static, table: Table, work: _Work, number, transmittance):
    """(parameters, evaluation, corners, tile) of chunks behind `transmittance`."""
    tile = work.tile[number]
    params = read_rows(table, work.row[number])
    corner = corners(static, tile % static.num_tiles, transmittance.dtype)
    chunk = evaluate(params, corner, transmittance, static.config)
    return params, chunk, corner, tile


def _before(combine: Callable, x: Float[Array, "chunk pixel"], start: float, first):
    """`x` combined over the chunks of the same tile that come before, `start` where `first`."""
    shifted = jnp.where(first[:, None], start, jnp.roll(x, 1, axis=0))

    def join(a, b):
        return a[0] | b[0], jnp.where(b[0], b[1], combine(a[1], b[1]))

    return lax.associative_scan(join, (first[:, None], shifted))[1]


def _behind(combine: Callable, x: Float[Array, "chunk pixel"], start: float, first):
    """`_before`, of the chunks that come after."""
    last = jnp.append(first[1:], True)
    return _before(combine, x[::-1], start, last[::-1])[::-1]


def _open(static: Static, work: _Work, in_front: Float[Array, "chunk pixel"]):
    """Which chunks can change a pixel."""
    _, _, min_transmittance = thresholds(static.config, in_front.dtype)
    return work.used & jnp.any(in_front > min_transmittance, axis=1)


def _joint(table: Table) -> Table:
    return tuple(column.reshape(-1) for column in table)


# ---- passes -----------------------------------------------------------------------------------


def _forward(static: Static, table: Table, lists: TileLists):
    """((feature [scene, height, width, channel], transmittance [scene, height, width]), saved)."""
    work = _work(lists, table[0].shape[1])
    num_scenes, dtype = table[0].shape[0], table[0].dtype
    num_tiles, num_channels = num_scenes * static.num_tiles, len(table) - NUM_GEOMETRY
    joint = _joint(table)

    def multiply(number, product):
        ones = jnp.ones((number.shape[0], static.num_pixels), dtype)
        _, chunk, _, _ = _evaluate(static, joint, work, number, ones)
        return product.at[number].set(chunk.after)

    ones = jnp.ones((work.used.shape[0], static.num_pixels), dtype)
    product = _in_batches(static, joint, work.used, multiply, ones)
    in_front = _before(jnp.multiply, product, 1, work.first)

    def compose(number, carry):
        feature, left = carry
        params, chunk, _, tile = _evaluate(static, joint, work, number, in_front[number])
        behind = jnp.where(chunk.contributes, chunk.before * (1 - chunk.alpha), 1)
        left = left.at[tile].min(jnp.min(behind, axis=1))
        return feature.at[tile].add(feature_sums(params.features, chunk.weight)), left

    feature = jnp.zeros((num_tiles, num_channels, static.num_pixels), dtype)
    carry = (feature, jnp.ones((num_tiles, static.num_pixels), dtype))
    feature, left = _in_batches(static, joint, _open(static, work, in_front), compose, carry)
    by_scene = functools.partial(_split_scenes, num_scenes)
    image = jax.vmap(functools.partial(image_from_tiles, static))
    images = image(by_scene(feature)), image(by_scene(left[:, None]))[..., 0]
    return images, _Saved(table, lists, by_scene(in_front), by_scene(left))


def _split_scenes(num_scenes: int, x):
    return x.reshape(num_scenes, -1, *x.shape[1:])


def _backward(static: Static, saved: _Saved, bars: tuple[Array, Array]) -> Table:
    """Gradient of the table, from those of features and transmittance."""
    feature_bar, transmittance_bar = bars
    table = saved.table
    work = _work(saved.lists, table[0].shape[1])
    tiles = jax.vmap(functools.partial(tiles_from_image, static))
    feature_bar = _join_scenes(tiles(feature_bar))
    left_bar = _join_scenes(tiles(transmittance_bar[..., None]))[:, 0]
    in_front, joint = _join_scenes(saved.in_front), _joint(table)
    is_open = _open(static, work, in_front)

    def contribute(number, gain):
        params, chunk, _, tile = _evaluate(static, joint, work, number, in_front[number])
        feature = feature_sums(params.features, chunk.weight)
        return gain.at[number].set(jnp.sum(feature * feature_bar[tile], axis=1))

    gain = _in_batches(static, joint, is_open, contribute, jnp.zeros_like(in_front))
    behind = _behind(jnp.add, gain, 0, work.first)
    behind_all = _join_scenes(saved.left) * left_bar

    def differentiate(number, table_bar):
        params, chunk, corner, tile = _evaluate(static, joint, work, number, in_front[number])
        end = behind[number] + behind_all[tile]
        bar, _ = gradient(params, chunk, corner, feature_bar[tile], end)
        return table_bar.at[work.row[number]].add(bar)

    table_bar = jnp.zeros((joint[0].size, len(table)), joint[0].dtype)
    table_bar = _in_batches(static, joint, is_open, differentiate, table_bar)
    return tuple(column.reshape(table[0].shape) for column in table_bar.T)


def _join_scenes(x):
    return x.reshape(-1, *x.shape[2:])


tangent = tangent_of(_forward, _over_scenes)
draw = both_modes(_over_scenes(_forward), tangent, _over_scenes(_backward))
