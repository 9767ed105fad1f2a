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
    falloff,
    thresholds,
)


def composite(
    splats: ScreenSplats, height: int, width: int, config: RasterConfig, capacity: int | None
) -> Composite:
    """Front-to-back compositing; `capacity` is ignored, nothing is ever dropped."""
    del capacity
    order = jnp.argsort(depth_order_key(splats), stable=True)
    ordered = jax.tree.map(lambda x: x[order], splats)
    row = jax.checkpoint(lambda y: _composite_row(ordered, y, width, config))
    centres = jnp.arange(height, dtype=splats.mean.dtype) + 0.5
    feature, transmittance = lax.map(row, centres)
    return Composite(feature, transmittance, jnp.zeros((), dtype=jnp.int32))


def _composite_row(splats: ScreenSplats, y, width: int, config: RasterConfig):
    """One image row at height `y`: ([width, channel], [width]); arrays are [gaussian, width]."""
    max_alpha, min_alpha, min_transmittance = thresholds(config, y.dtype)
    x = jnp.arange(width, dtype=y.dtype) + 0.5
    dx = splats.mean[:, :1] - x[None]
    dy = splats.mean[:, 1:] - y
    uu, uv, vv = (splats.conic[:, i, None] for i in range(3))
    weight, inside = falloff(dx, dy, uu, uv, vv)
    raw = splats.opacity[:, None] * weight
    alpha = jnp.where(raw > max_alpha, max_alpha, raw)
    alpha = jnp.where(inside & (alpha >= min_alpha), alpha, jnp.zeros_like(alpha))

    after = jnp.cumprod(1 - alpha, axis=0)
    before = jnp.concatenate([jnp.ones_like(after[:1]), after])[:-1]
    stopped = lax.cummax((after <= min_transmittance).astype(jnp.int32), axis=0) > 0
    alpha = jnp.where(stopped, jnp.zeros_like(alpha), alpha)
    contribution = jnp.where(stopped, jnp.zeros_like(alpha), before * alpha)
    feature = jnp.sum(contribution[..., None] * splats.feature[:, None, :], axis=0)
    return feature, jnp.prod(1 - alpha, axis=0)
