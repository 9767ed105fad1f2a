"""Mosaic GPU kernels that walk tile lists: one block per tile, one warpgroup per block.

A block has 128 threads for the pixels of one tile. The parameters of a chunk's slots come to shared
memory by asynchronous copies, the next chunk's while this one is drawn; every slot's parameters
are then read by all threads at once. Blocks are numbered by falling length of their lists, so that
the longest start first; a block ends when its pixels are opaque.

`params` are [chunk, parameter, slot] in the order of `ChunkParams`, gathered by tile list. The
forward kernel keeps the transmittance in front of each chunk; the backward kernel walks back to
front, repeats a chunk from there, and sums each slot's gradient over the tile.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu
from jaxtyping import Array, Float, Int

from tttlrm_jax.rasterize.backends.chunks import geometry_gradient
from tttlrm_jax.rasterize.backends.tables import NUM_GEOMETRY, corners
from tttlrm_jax.rasterize.compositing import negative_log_falloff, thresholds
from tttlrm_jax.rasterize.tile_lists import CHUNK, Static

TILE = 16  # px: two pixels a thread, and a third of the slots of 8 px
_BUFFERS = 2  # chunks in shared memory: one to draw, one on its way


class Walk(NamedTuple):
    """Lists as the kernels read them; order[i] is the tile of block i."""

    order: Int[Array, " tile"]
    first_chunk: Int[Array, " tile"]
    num_chunks: Int[Array, " tile"]


class Drawn(NamedTuple):
    """What the forward kernel writes; only the first `rounds` chunks of a list are written."""

    feature: Float[Array, "tile channel pixel"]
    left: Float[Array, "tile pixel"]  # transmittance behind everything
    in_front: Float[Array, "chunk pixel"]  # transmittance
    rounds: Int[Array, " tile"]  # chunks walked before every pixel had stopped


@dataclasses.dataclass(frozen=True)
class _Slot:
    """One Gaussian at the pixels of a tile."""

    dx: Array
    dy: Array
    conic: tuple[Array, Array, Array]
    raw: Array
    alpha: Array


def _read_slot(static: Static, ref, k, x, y) -> _Slot:
    """Slot `k` of a chunk's parameters [parameter, slot] at the pixel centres (x, y)."""
    max_alpha, min_alpha, _ = (float(t) for t in _limits(static, x.dtype))
    u, v, uu, uv, vv, log_opacity = (ref[j, k] for j in range(NUM_GEOMETRY))
    dx, dy = u - x, v - y
    sigma = negative_log_falloff(dx, dy, uu, uv, vv)
    raw = jnp.where(sigma < 0, 0.0, jnp.exp(log_opacity - sigma))
    alpha = jnp.where(raw < min_alpha, 0.0, jnp.minimum(raw, max_alpha))
    return _Slot(dx, dy, (uu, uv, vv), raw, alpha)


def _read_features(ref, k) -> list[Array]:
    return [ref[j, k] for j in range(NUM_GEOMETRY, ref.shape[0])]


def _limits(static: Static, dtype):
    with jax.ensure_compile_time_eval():
        return thresholds(static.config, dtype)


def _pixel_centres(static: Static, tile, centres_ref):
    """(x, y) of a tile's pixels, px; `centres_ref` [2, pixel] has those of the first tile."""
    left, top = corners(static, tile, centres_ref.dtype)
    return centres_ref[0] + left, centres_ref[1] + top


def _centres(static: Static, dtype) -> Float[Array, "2 pixel"]:
    index = lax.iota(jnp.int32, static.num_pixels)
    return jnp.stack([index % static.tile, index // static.tile]).astype(dtype) + 0.5


# ---- forward ----------------------------------------------------------------------------------


def draw(static: Static, params, walk: Walk, interpret: Any) -> Drawn:
    """Composites every tile."""
    num_chunks, num_params, _ = params.shape
    num_channels, pixels = num_params - NUM_GEOMETRY, static.num_pixels

    def block(params_ref, order_ref, first_ref, count_ref, centres_ref, *refs):
        feature_ref, left_ref, in_front_ref, rounds_ref, buffer, barrier = refs
        _, _, min_transmittance = (float(t) for t in _limits(static, params.dtype))
        tile = order_ref[lax.axis_index("block")]
        first, count = first_ref[tile], count_ref[tile]
        x, y = _pixel_centres(static, tile, centres_ref)
        zero = x * 0.0

        def fetch(i):
            at = i % _BUFFERS
            plgpu.copy_gmem_to_smem(params_ref.at[first + i], buffer.at[at], barrier.at[at])

        pl.when(count > 0)(lambda: fetch(0))

        def walk_chunk(carry):
            i, transmittance, *rest, _ = carry
            pl.when(i + 1 < count)(lambda: fetch(i + 1))
            plgpu.barrier_wait(barrier.at[i % _BUFFERS])
            in_front_ref[first + i] = transmittance

            def draw_slot(k, carry):
                transmittance, left, *feature = carry
                chunk = buffer.at[i % _BUFFERS]
                slot, features = _read_slot(static, chunk, k, x, y), _read_features(chunk, k)
                after = transmittance * (1 - slot.alpha)
                drawn = (after > min_transmittance) & (slot.alpha > 0)
                weight = jnp.where(drawn, transmittance * slot.alpha, 0.0)
                feature = [f + weight * g for f, g in zip(feature, features, strict=True)]
                return after, jnp.where(drawn, after, left), *feature

            transmittance, *rest = lax.fori_loop(0, CHUNK, draw_slot, (transmittance, *rest))
            return i + 1, transmittance, *rest, jnp.max(transmittance) > min_transmittance

        start = (jnp.int32(0), zero + 1, zero + 1, *[zero] * num_channels, jnp.bool_(True))
        rounds, _, left, *feature, _ = lax.while_loop(
            lambda carry: (carry[0] < count) & carry[-1], walk_chunk, start
        )
        # A copy is still on its way if the tile became opaque early.
        pl.when(rounds < count)(lambda: plgpu.barrier_wait(barrier.at[rounds % _BUFFERS]))
        left_ref[tile] = left
        rounds_ref[tile] = rounds
        for channel, value in enumerate(feature):
            feature_ref[tile, channel] = value

    dtype, num_tiles = params.dtype, static.num_tiles
    kernel = plgpu.kernel(
        block,
        out_type=(
            jax.ShapeDtypeStruct((num_tiles, num_channels, pixels), dtype),
            jax.ShapeDtypeStruct((num_tiles, pixels), dtype),
            jax.ShapeDtypeStruct((num_chunks, pixels), dtype),
            jax.ShapeDtypeStruct((num_tiles,), jnp.int32),
        ),
        scratch_types=(
            plgpu.SMEM((_BUFFERS, num_params, CHUNK), dtype),
            plgpu.Barrier(num_barriers=_BUFFERS),
        ),
        grid=(num_tiles,),
        grid_names=("block",),
        interpret=interpret,
    )
    return Drawn(*kernel(params, *walk, _centres(static, dtype)))


# ---- backward ---------------------------------------------------------------------------------


def differentiate(
    static: Static, params, walk: Walk, drawn: Drawn, feature_bar, left_bar, interpret: Any
) -> Float[Array, "chunk parameter slot"]:
    """Gradient of `params`; chunks that were not walked are not written."""
    num_chunks, num_params, _ = params.shape
    num_channels, pixels = num_params - NUM_GEOMETRY, static.num_pixels

    def block(params_ref, order_ref, first_ref, rounds_ref, centres_ref, *refs):
        in_front_ref, left_ref, feature_bar_ref, left_bar_ref, bar_ref, *scratch = refs
        buffer, before, bar, barrier = scratch
        tile = order_ref[lax.axis_index("block")]
        first, rounds = first_ref[tile], rounds_ref[tile]
        x, y = _pixel_centres(static, tile, centres_ref)
        feature_bar = [feature_bar_ref[tile, channel] for channel in range(num_channels)]

        def fetch(i):
            at = i % _BUFFERS
            plgpu.copy_gmem_to_smem(params_ref.at[first + i], buffer.at[at], barrier.at[at])

        pl.when(rounds > 0)(lambda: fetch(rounds - 1))

        def walk_chunk(step, behind):
            i = rounds - 1 - step
            pl.when(i > 0)(lambda: fetch(i - 1))
            plgpu.barrier_wait(barrier.at[i % _BUFFERS])
            chunk = buffer.at[i % _BUFFERS]

            def repeat(k, transmittance):
                before[k] = transmittance
                return transmittance * (1 - _read_slot(static, chunk, k, x, y).alpha)

            lax.fori_loop(0, CHUNK, repeat, in_front_ref[first + i])

            def walk_slot(step, behind):
                k = CHUNK - 1 - step
                slot, features = _read_slot(static, chunk, k, x, y), _read_features(chunk, k)
                bars = zip(features, feature_bar, strict=True)
                columns, behind = _slot_gradient(static, slot, before[k], list(bars), behind)
                for j, column in enumerate(columns):
                    bar[j, k] = column
                return behind

            behind = lax.fori_loop(0, CHUNK, walk_slot, behind)
            plgpu.commit_smem()
            plgpu.copy_smem_to_gmem(bar, bar_ref.at[first + i])
            plgpu.wait_smem_to_gmem(0)
            return behind

        lax.fori_loop(0, rounds, walk_chunk, left_ref[tile] * left_bar_ref[tile])

    dtype = params.dtype
    kernel = plgpu.kernel(
        block,
        out_type=jax.ShapeDtypeStruct((num_chunks, num_params, CHUNK), dtype),
        scratch_types=(
            plgpu.SMEM((_BUFFERS, num_params, CHUNK), dtype),
            plgpu.SMEM((CHUNK, pixels), dtype),
            plgpu.SMEM((num_params, CHUNK), dtype),
            plgpu.Barrier(num_barriers=_BUFFERS),
        ),
        grid=(static.num_tiles,),
        grid_names=("block",),
        interpret=interpret,
    )
    return kernel(
        params, walk.order, walk.first_chunk, drawn.rounds, _centres(static, dtype),
        drawn.in_front, drawn.left, feature_bar, left_bar,
    )  # fmt: skip


def _slot_gradient(static: Static, slot: _Slot, before, features, behind):
    """(gradient of the slot's parameters, `behind` in front of it); see `chunks.gradient`.

    `features` are pairs of one and the gradient of the image in its channel.
    """
    max_alpha, _, min_transmittance = (float(t) for t in _limits(static, before.dtype))
    drawn = (before * (1 - slot.alpha) > min_transmittance) & (slot.alpha > 0)
    weight = jnp.where(drawn, before * slot.alpha, 0.0)
    gain = before * 0.0
    for value, bar in features:
        gain += value * bar
    alpha_bar = before * gain - behind / (1 - slot.alpha)
    raw_bar = jnp.where(drawn & (slot.raw <= max_alpha), alpha_bar * slot.alpha, 0.0)
    along_x, along_y = raw_bar * slot.dx, raw_bar * slot.dy
    terms = (raw_bar, along_x, along_y, along_x * slot.dx, along_x * slot.dy, along_y * slot.dy)
    geometry = geometry_gradient(slot.conic, [jnp.sum(term) for term in terms])
    feature_bars = [jnp.sum(weight * bar) for _, bar in features]
    return (*geometry, *feature_bars), behind + weight * gain
