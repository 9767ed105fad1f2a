"""Light along rays: emission and absorption, by the quadrature of Max (1995) that NeRF uses.

Between a sample and the next one, or the ray's end, density and colour are the sample's. What lies
behind a transmittance below `min_transmittance` counts nothing.
"""

import flax.struct
import jax.numpy as jnp
from jaxtyping import Array, Float

from tttlrm_jax.core.types import typechecked


@flax.struct.dataclass
class Marched:
    """What rays see. `rgb` lies on the background; `depth` is the mean distance along the ray times
    `alpha`, in units of the scene."""

    rgb: Float[Array, "... 3"]
    alpha: Float[Array, "..."]
    depth: Float[Array, "..."]


@typechecked
def steps(
    distance: Float[Array, "ray sample"], far: Float[Array, " ray"]
) -> Float[Array, "ray sample"]:
    """Lengths from each sample to the next one, the last to the end of the ray."""
    return jnp.diff(distance, axis=-1, append=far[:, None])


@typechecked
def sample_weights(
    density: Float[Array, "ray sample"],
    length: Float[Array, "ray sample"],
    transmittance: Float[Array, " ray"],
    min_transmittance: float,
) -> tuple[Float[Array, "ray sample"], Float[Array, " ray"]]:
    """What each sample counts in the picture, and the transmittance behind the last one, for rays
    that `transmittance` is left of."""
    absorbed = jnp.cumsum(density * length, axis=-1)
    through = transmittance[:, None] * jnp.exp(-absorbed)
    before = jnp.concatenate([transmittance[:, None], through[:, :-1]], axis=-1)
    weight = jnp.where(before >= min_transmittance, before - through, 0.0)
    return weight, through[:, -1]


@typechecked
def composite(
    distance: Float[Array, "ray sample"],
    far: Float[Array, " ray"],
    density: Float[Array, "ray sample"],
    colour: Float[Array, "ray sample 3"],
    background: Float[Array, " 3"],
    min_transmittance: float,
) -> Marched:
    """The plain reference: one sample of all rays after another, front to back."""
    length = steps(distance, far)
    left = jnp.ones_like(far)
    rgb, alpha, depth = jnp.zeros_like(colour[:, 0]), jnp.zeros_like(far), jnp.zeros_like(far)
    for index in range(distance.shape[1]):
        opacity = 1 - jnp.exp(-density[:, index] * length[:, index])
        weight = jnp.where(left >= min_transmittance, left * opacity, 0.0)
        rgb = rgb + weight[:, None] * colour[:, index]
        alpha, depth = alpha + weight, depth + weight * distance[:, index]
        left = left * (1 - opacity)
    return Marched(rgb + (1 - alpha)[:, None] * background[None], alpha, depth)
