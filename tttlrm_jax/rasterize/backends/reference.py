"""The oracle: every Gaussian against every pixel, row by row, differentiated by JAX.

Time grows as pixels x Gaussians, memory as row width x Gaussians. Order, skipping and stopping
are constants of the derivative; `min(max_alpha, .)` passes none where it is active.
"""

import jax
import jax.numpy as jnp
from jax import lax

from tttlrm_jax.config import RasterConfig
from tttlrm_jax.rasterize.compositing import (
    Composite,
    ScreenSplats,
    depth_order_key,
    negative_log_falloff,
    thresholds,
)
from tttlrm_jax.rasterize.tile_lists import Static


def composite(splats: ScreenSplats, static: Static) -> Composite:
    """Front-to-back compositing; `capacity` is ignored, nothing is ever dropped."""
    order = jnp.argsort(depth_order_key(splats), stable=True)
    ordered = jax.tree.map(lambda x: x[order], splats)
    row = jax.checkpoint(lambda y: _composite_row(ordered, y, static.width, static.config))
    centres = jnp.arange(static.height, dtype=splats.mean.dtype) + 0.5
    feature, transmittance = lax.map(row, centres)
    return Composite(feature, transmittance, jnp.zeros((), dtype=jnp.int32))


def _composite_row(splats: ScreenSplats, y, width: int, config: RasterConfig):
    """One image row at height `y`: ([width, channel], [width])."""
    alpha, before, _ = row_alphas(splats, y, width, config)
    feature = jnp.sum((before * alpha)[..., None] * splats.feature[:, None, :], axis=0)
    return feature, jnp.prod(1 - alpha, axis=0)


def row_alphas(splats: ScreenSplats, y, width: int, config: RasterConfig):
    """(alpha, transmittance in front, stopped), each [gaussian, width], of one image row.

    `splats` are in depth order. Alpha is zero where the Gaussian is skipped or comes after the
    stop; `stopped` marks the Gaussian that stops the pixel and all behind it.
    """
    max_alpha, min_alpha, min_transmittance = thresholds(config, y.dtype)
    x = jnp.arange(width, dtype=y.dtype) + 0.5
    dx = splats.mean[:, :1] - x[None]
    dy = splats.mean[:, 1:] - y
    uu, uv, vv = (splats.conic[:, i, None] for i in range(3))
    sigma = negative_log_falloff(dx, dy, uu, uv, vv)
    raw = splats.opacity[:, None] * jnp.exp(-jnp.maximum(sigma, 0))
    alpha = jnp.where(raw > max_alpha, max_alpha, raw)
    alpha = jnp.where((sigma >= 0) & (alpha >= min_alpha), alpha, jnp.zeros_like(alpha))

    after = jnp.cumprod(1 - alpha, axis=0)
    before = jnp.concatenate([jnp.ones_like(after[:1]), after])[:-1]
    stopped = lax.cummax((after <= min_transmittance).astype(jnp.int32), axis=0) > 0
    alpha, before = (jnp.where(stopped, jnp.zeros_like(v), v) for v in (alpha, before))
    return alpha, before, stopped
