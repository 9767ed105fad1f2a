"""Rotation matrices from quaternions (w, x, y, z)."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from tttlrm_jax.types import typechecked


@typechecked
def rotation_from_quaternion(quaternion: Float[Array, "*batch 4"]) -> Float[Array, "*batch 3 3"]:
    """Rotation matrix of a quaternion (w, x, y, z) of any non-zero length.

    The quaternion is normalised inside; derivatives are with respect to the raw value. At length
    zero, where no rotation is defined, the value is the identity and the derivative zero.
    """
    largest = jnp.max(jnp.abs(quaternion), axis=-1, keepdims=True)
    zero = largest == 0
    # Dividing by the largest entry first keeps the squares of tiny and huge quaternions finite.
    scaled = quaternion / jnp.where(zero, jnp.ones_like(largest), largest)
    squared_length = jnp.sum(scaled * scaled, axis=-1, keepdims=True)
    length = jnp.sqrt(jnp.where(zero, jnp.ones_like(squared_length), squared_length))
    w, x, y, z = jnp.moveaxis(jnp.where(zero, jnp.zeros_like(scaled), scaled / length), -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)
