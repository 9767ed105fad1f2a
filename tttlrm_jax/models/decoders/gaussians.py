"""Tokens to pixel-aligned Gaussians: one per pixel of every virtual view (tttLRM section 3).

Channels of one Gaussian: 3 position, 3K spherical harmonics (coefficient slow), 3 scale,
4 rotation (wxyz), 1 opacity. The position channels are averaged to one distance along the
pixel's unit ray.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from tttlrm_jax.config import ModelConfig
from tttlrm_jax.core.geometry.rays import camera_rays
from tttlrm_jax.core.geometry.spherical_harmonics import SH_CONSTANT
from tttlrm_jax.core.precision import accumulation_dtype
from tttlrm_jax.core.types import Gaussians, Views, typechecked
from tttlrm_jax.models.nn.layers import LayerNorm, linear
from tttlrm_jax.models.nn.tokens import patchify, unpatchify

SH_OFFSET = 0.5  # colour = SH + 0.5


def num_coefficients(sh_degree: int) -> int:
    """Spherical-harmonics coefficients per colour channel."""
    return (sh_degree + 1) ** 2


def num_channels(sh_degree: int) -> int:
    """Raw channels of one Gaussian."""
    return 3 + 3 * num_coefficients(sh_degree) + 3 + 4 + 1


@typechecked
def gaussians_from_channels(
    raw: Float[Array, "*batch gaussian channel"],
    ray_origin: Float[Array, "*batch gaussian 3"],
    ray_direction: Float[Array, "*batch gaussian 3"],
    config: ModelConfig,
) -> Gaussians:
    """The published activations; the result is stored, not activated.

    `distance = max_distance * sigmoid(mean of 3)` in world units along the unit ray (see
    `ray_distance` for `distance_anchor`), `log_scale = min(raw + log_scale_offset, log_scale_max)`,
    `opacity_logit = raw + opacity_offset`; SH and quaternion are raw.
    """
    num_sh = 3 * num_coefficients(config.sh_degree)
    bounds = [3, 3 + num_sh, 6 + num_sh, 10 + num_sh]
    position, sh, scale, quaternion, opacity = jnp.split(raw, bounds, axis=-1)
    position = jnp.mean(position, axis=-1, keepdims=True)
    distance = ray_distance(jax.nn.sigmoid(position), ray_origin, ray_direction, config)
    return Gaussians(
        mean=ray_origin + distance * ray_direction,
        sh=sh.reshape(*sh.shape[:-1], num_sh // 3, 3),
        log_scale=jnp.minimum(scale + config.log_scale_offset, config.log_scale_max),
        quaternion=quaternion,
        opacity_logit=opacity[..., 0] + config.opacity_offset,
    )


@typechecked
def ray_distance(
    share: Float[Array, "*batch gaussian 1"],
    ray_origin: Float[Array, "*batch gaussian 3"],
    ray_direction: Float[Array, "*batch gaussian 3"],
    config: ModelConfig,
) -> Float[Array, "*batch gaussian 1"]:
    """Distance along the unit ray for a share in [0, 1] of the range `max_distance`.

    The range starts at the camera, as published; or, for objects around the origin
    (`distance_anchor="origin"`), its middle is the ray's nearest point to the origin.
    """
    if config.distance_anchor == "camera":
        return config.max_distance * share
    nearest = -jnp.sum(ray_origin * ray_direction, axis=-1, keepdims=True)
    return jnp.maximum(nearest + config.max_distance * (share - 0.5), 0.0)


def add_colour(gaussians: Gaussians, colour: Float[Array, "*batch gaussian 3"]) -> Gaussians:
    """Shifts the constant SH coefficient so that all-zero coefficients show `colour` (RGB)."""
    constant = (colour - SH_OFFSET) / SH_CONSTANT
    sh = gaussians.sh.at[..., 0, :].add(constant.astype(gaussians.sh.dtype))
    return gaussians.replace(sh=sh)


class GaussianDecoder(nnx.Module):
    """LayerNorm and a linear layer to `patch^2` Gaussians per token."""

    gives = "gaussians"

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        out = config.patch_size**2 * num_channels(config.sh_degree)
        self.norm = LayerNorm(config.d_model, config)
        self.linear = linear(config.d_model, out, config, rngs=rngs)
        self.config = config

    def queries(self, batch: int) -> None:
        """None: tokens of views are decoded."""
        del batch

    def __call__(self, tokens: Float[Array, "batch view token d_model"], views: Views) -> Gaussians:
        """Gaussians ordered by view, patch row, patch column, row and column in the patch."""
        batch, view, token, _ = tokens.shape
        raw = self.linear(self.norm(tokens))
        raw = raw.astype(accumulation_dtype(raw.dtype))
        gaussian_shape = (batch, view * token * self.config.patch_size**2)

        def per_gaussian(x):
            return x.reshape(*gaussian_shape, -1)

        origin, direction = (
            per_gaussian(patchify(ray, self.config.patch_size))
            for ray in camera_rays(views.cameras)
        )
        channels = num_channels(self.config.sh_degree)
        raw = raw.reshape(*gaussian_shape, channels)
        gaussians = gaussians_from_channels(raw, origin, direction, self.config)
        if not self.config.colour_residual:
            return gaussians
        return add_colour(gaussians, per_gaussian(patchify(views.image, self.config.patch_size)))


@typechecked
def pixel_grid_of_gaussians(
    per_gaussian: Float[Array, "batch gaussian channel"], height: int, width: int, patch: int
) -> Float[Array, "batch view {height} {width} channel"]:
    """Lays values per Gaussian (before pruning) out as the virtual views' images."""
    batch, _, channel = per_gaussian.shape
    num_token = (height // patch) * (width // patch)
    tokens = per_gaussian.reshape(batch, -1, num_token, patch * patch * channel)
    return unpatchify(tokens, height, width, patch)
