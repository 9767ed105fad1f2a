"""The oracle: every Gaussian against every pixel, front to back, differentiated by JAX.

Time grows as pixels x Gaussians, memory as pixels x Gaussians / `CHUNK`. Order, skipping and
stopping are constants of the derivative; `min(max_alpha, .)` passes none where it is active.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from tttlrm_jax.rasterize.compositing import (
    Composite,
    ScreenSplats,
    depth_order_key,
    negative_log_falloff,
    thresholds,
)
from tttlrm_jax.rasterize.tile_lists import Static

CHUNK = 16  # Gaussians at once: what their backward pass reads stays in a processor's cache


class Light(NamedTuple):
    """What the Gaussians so far have left at each pixel."""

    transmittance: Float[Array, " pixel"]
    stopped: Bool[Array, " pixel"]  # by a Gaussian that would leave next to nothing
    count: Int[Array, " pixel"]  # Gaussians that are summed


def composite(splats: ScreenSplats, static: Static) -> Composite:
    """Front-to-back compositing; `capacity` is ignored, nothing is ever dropped."""
    feature, light = trace(splats, static)
    shape = (static.height, static.width)
    return Composite(
        feature=feature.reshape(*shape, -1),
        transmittance=light.transmittance.reshape(shape),
        num_dropped=jnp.zeros((), dtype=jnp.int32),
    )


def trace(splats: ScreenSplats, static: Static) -> tuple[Float[Array, "pixel channel"], Light]:
    """Sums of features and what is left behind all Gaussians, by pixel, row after row."""
    order = jnp.argsort(depth_order_key(splats), stable=True)
    columns = (splats.mean, splats.conic, splats.opacity, splats.feature)
    chunks = tuple(_in_chunks(column[order]) for column in columns)
    dtype, pixels = splats.mean.dtype, static.height * static.width
    *_, min_transmittance = thresholds(static.config, dtype)

    def pass_one(light: Light, alpha):
        after = light.transmittance * (1 - alpha)
        stopped = light.stopped | (after <= min_transmittance)
        alpha = jnp.where(stopped, jnp.zeros_like(alpha), alpha)
        left = jnp.where(stopped, light.transmittance, after)
        return Light(left, stopped, light.count + (alpha > 0)), light.transmittance * alpha

    def draw_chunk(carry, chunk):
        feature, light = carry
        mean, conic, opacity, features = chunk
        light, weights = lax.scan(pass_one, light, _alphas(mean, conic, opacity, static).T)
        drawn = jnp.einsum("gp,gc->pc", weights, features, precision="highest")
        return (feature + drawn, light), None

    dark = jnp.zeros((pixels, splats.feature.shape[1]), jnp.result_type(dtype, splats.feature))
    light = Light(jnp.ones(pixels, dtype), jnp.zeros(pixels, bool), jnp.zeros(pixels, jnp.int32))
    drawn, _ = lax.scan(jax.checkpoint(draw_chunk, prevent_cse=False), (dark, light), chunks)
    return drawn


def _in_chunks(column):
    """[chunk, CHUNK, ...], filled up with zeros, which are skipped."""
    missing = -len(column) % CHUNK
    column = jnp.pad(column, ((0, missing), *((0, 0),) * (column.ndim - 1)))
    return column.reshape(-1, CHUNK, *column.shape[1:])


def _alphas(mean, conic, opacity, static: Static) -> Float[Array, "pixel gaussian"]:
    """Opacities at the pixels' centres, zero where a Gaussian is skipped."""
    max_alpha, min_alpha, _ = thresholds(static.config, mean.dtype)
    y, x = (c.reshape(-1, 1) + 0.5 for c in jnp.indices((static.height, static.width), mean.dtype))
    dx, dy = mean[None, :, 0] - x, mean[None, :, 1] - y
    sigma = negative_log_falloff(dx, dy, *conic.T[:, None])
    raw = opacity[None] * jnp.exp(-jnp.maximum(sigma, 0))
    alpha = jnp.where(raw > max_alpha, max_alpha, raw)
    return jnp.where((sigma >= 0) & (alpha >= min_alpha), alpha, jnp.zeros_like(alpha))
