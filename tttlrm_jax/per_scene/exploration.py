"""Noise on the positions of faint Gaussians (Kheradmand et al. 2024, equation 9).

Steps with noise sample Gaussians in place of settling on the nearest ones: what a view needs stays
solid and in place, faint ones wander within their own shape until something holds them. Beside
classic density control this keeps faint Gaussians from learning views by heart.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from tttlrm_jax.core.geometry.rotations import rotation_from_quaternion
from tttlrm_jax.core.types import Gaussians

FAINT = 0.005  # opacity at which half of the noise is left
SHARPNESS = 100.0  # of the fall of noise with the opacity


def wandered(
    gaussians: Gaussians, strength: Float[Array, "..."] | float, key: Array
) -> Float[Array, "gaussian 3"]:
    """Positions after a random move: normal with the square of each Gaussian's own covariance,
    times `strength` (in units of 1 / length), and less the more opaque it is."""
    opacity = jax.nn.sigmoid(gaussians.opacity_logit)
    share = jax.nn.sigmoid(SHARPNESS * (FAINT - opacity))
    drawn = jax.random.normal(key, gaussians.mean.shape, gaussians.mean.dtype)
    rotation = rotation_from_quaternion(gaussians.quaternion)
    local = jnp.sum(rotation * drawn[:, :, None], axis=1)  # into the axes of each Gaussian
    local = local * jnp.exp(2 * gaussians.log_scale)
    move = jnp.sum(rotation * local[:, None, :], axis=-1)
    return gaussians.mean + strength * share[:, None] * move
