"""What compositing backends take and give, and the rules they share."""

import dataclasses

import flax.struct
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from tttlrm_jax.config import RasterConfig
from tttlrm_jax.rasterize.projection import ProjectedGaussians, float32_constant


@flax.struct.dataclass
class ScreenSplats:
    """Gaussians ready for compositing; a `radius` of (0, 0) marks those not to draw."""

    mean: Float[Array, "gaussian 2"]  # px
    conic: Float[Array, "gaussian 3"]
    opacity: Float[Array, " gaussian"]
    feature: Float[Array, "gaussian channel"]
    depth: Float[Array, " gaussian"]  # sets the order only
    radius: Int[Array, "gaussian 2"]  # px


@flax.struct.dataclass
class Composite:
    """Accumulated features without background, what is left of the light, and lost work."""

    feature: Float[Array, "height width channel"]
    transmittance: Float[Array, "height width"]
    num_dropped: Int[Array, ""]  # Gaussian-tile intersections beyond the capacity


def depth_order_key(splats: ScreenSplats) -> Float[Array, " gaussian"]:
    """Depth as float32, infinite for Gaussians that are not drawn: they sort last."""
    drawn = jnp.all(splats.radius > 0, axis=-1)
    return jnp.where(drawn, splats.depth.astype(jnp.float32), jnp.float32(jnp.inf))


def in_rows(
    splats: ScreenSplats, top: Float[Array, ""], rows: int, wanted: Bool[Array, ""] | bool = True
) -> ScreenSplats:
    """The splats as a picture of so many `rows` from row `top` on sees them; those that do not
    reach into it are not to be drawn, nor any unless they are `wanted`."""
    y = splats.mean[:, 1] - top
    reach = splats.radius[:, 1].astype(y.dtype)
    inside = (y + reach > 0) & (y - reach < rows)
    inside &= jnp.all(splats.radius > 0, axis=1) & wanted
    return dataclasses.replace(
        splats,
        mean=jnp.stack([splats.mean[:, 0], y], axis=1),
        radius=jnp.where(inside[:, None], splats.radius, 0),
        opacity=jnp.where(inside, splats.opacity, 0),
    )


def screen_splats(
    projected: ProjectedGaussians, opacity, feature, config: RasterConfig
) -> ScreenSplats:
    """Joins a projection with opacities (compensated if antialiased) and features."""
    drawn = jnp.all(projected.radius_opacity_aware > 0, axis=-1)
    opacity = jnp.where(drawn, opacity, jnp.zeros_like(opacity))
    if config.antialiased:
        opacity = opacity * projected.compensation
    return ScreenSplats(
        mean=projected.mean,
        conic=projected.conic,
        opacity=opacity,
        feature=feature,
        depth=projected.depth,
        radius=projected.radius_opacity_aware,
    )


def negative_log_falloff(dx, dy, conic_uu, conic_uv, conic_vv):
    """sigma at offsets (dx, dy) px of the centre from the pixel: alpha = opacity exp(-sigma)."""
    return 0.5 * (conic_uu * dx * dx + conic_vv * dy * dy) + conic_uv * dx * dy


def thresholds(config: RasterConfig, dtype):
    """(max_alpha, min_alpha, min_transmittance) as float32 roundings in `dtype`."""
    values = (config.max_alpha, config.min_alpha, config.min_transmittance)
    return tuple(float32_constant(value, dtype) for value in values)
