"""Rotation matrices from quaternions (w, x, y, z)."""

from collections.abc import Sequence

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from tttlrm_jax.core.types import typechecked


@typechecked
def rotation_from_quaternion(quaternion: Float[Array, "*batch 4"]) -> Float[Array, "*batch 3 3"]:
    """Rotation matrix of a quaternion (w, x, y, z) of any non-zero length.

    The quaternion is normalised inside; derivatives are with respect to the raw value. At length
    zero, where no rotation is defined, the value is the identity and the derivative zero.
    """
    rows = rotation_entries(tuple(jnp.moveaxis(quaternion, -1, 0)))
    return jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)


def rotation_entries(quaternion: Sequence[Array]) -> tuple[tuple[Array, Array, Array], ...]:
    """Rows of `rotation_from_quaternion`, from and to arrays of one component each."""
    w, x, y, z = unit_components(quaternion)
    return (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )


def unit_components(components: Sequence[Array]) -> list[Array]:
    """Components of a vector over its length; zero, with zero derivative, at length zero.

    Dividing by the largest component first keeps the squares of tiny and huge ones finite.
    """
    largest = jnp.abs(components[0])
    for component in components[1:]:
        largest = jnp.maximum(largest, jnp.abs(component))
    largest = lax.stop_gradient(largest)
    zero = largest == 0
    scaled = [x / jnp.where(zero, jnp.ones_like(x), largest) for x in components]
    squared_length = sum((x * x for x in scaled), start=jnp.zeros_like(largest))
    length = jnp.sqrt(jnp.where(zero, jnp.ones_like(largest), squared_length))
    return [jnp.where(zero, jnp.zeros_like(x), x / length) for x in scaled]
