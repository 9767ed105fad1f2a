"""Where along its ray a field is looked at: distances, in units of the (unit) direction.

Distances carry no gradient; the points there do, through origins and directions.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from tttlrm_jax.core.types import typechecked

LEAST_WEIGHT = 1e-3  # of a part between coarse samples, so that none is never looked at
LEAST_SLOPE = 1e-8  # of a direction along an axis


@typechecked
def box_range(
    origin: Float[Array, "ray 3"], direction: Float[Array, "ray 3"], extent: float
) -> tuple[Float[Array, " ray"], Float[Array, " ray"]]:
    """Distances at which rays enter and leave the box [-extent, extent]^3, from 0 on.

    Both are the same for a ray that misses it.
    """
    steep = jnp.abs(direction) >= LEAST_SLOPE
    slope = jnp.where(steep, direction, jnp.where(direction < 0, -LEAST_SLOPE, LEAST_SLOPE))
    first, second = (-extent - origin) / slope, (extent - origin) / slope
    near = jnp.maximum(jnp.max(jnp.minimum(first, second), axis=-1), 0.0)
    far = jnp.min(jnp.maximum(first, second), axis=-1)
    near, far = jax.lax.stop_gradient((near, far))
    return near, jnp.maximum(near, far)


@typechecked
def stratified(
    near: Float[Array, " ray"], far: Float[Array, " ray"], shift: Float[Array, "ray sample"]
) -> Float[Array, "ray sample"]:
    """One distance in each of as many equal parts of [near, far]; `shift` in [0, 1) is the place in
    the part, 0.5 its middle."""
    return near[:, None] + (far - near)[:, None] * _shares(shift)


@typechecked
def importance(
    distance: Float[Array, "ray sample"],
    weight: Float[Array, "ray sample"],
    near: Float[Array, " ray"],
    far: Float[Array, " ray"],
    shift: Float[Array, "ray more"],
) -> Float[Array, "ray more"]:
    """Distances distributed as the weights of sorted samples are (NeRF, arXiv 2003.08934, 5.2).

    A weight counts for the part around its sample, to the middle of the way to the next ones;
    `shift` as in `stratified`, of equal parts of the probability.
    """
    middle = (distance[:, 1:] + distance[:, :-1]) / 2
    edges = jnp.concatenate([near[:, None], middle, far[:, None]], axis=-1)
    chance = weight + LEAST_WEIGHT
    total = jnp.cumsum(chance, axis=-1)
    total = jnp.pad(total / total[:, -1:], ((0, 0), (1, 0)))
    wanted = _shares(shift)
    part = jnp.sum(wanted[:, :, None] >= total[:, None, 1:-1], axis=-1)

    def at(values: Array, index: Array) -> Array:
        return jnp.take_along_axis(values, index, axis=-1)

    low, high = at(total, part), at(total, part + 1)
    share = (wanted - low) / jnp.maximum(high - low, 1e-12)
    start, end = at(edges, part), at(edges, part + 1)
    return jax.lax.stop_gradient(start + (end - start) * jnp.clip(share, 0.0, 1.0))


def _shares(shift: Array) -> Array:
    """One place in each of as many equal parts of [0, 1] as a ray has shifts."""
    count = shift.shape[-1]
    return (jnp.arange(count, dtype=shift.dtype)[None] + shift) / count
