"""Camera transforms inside compiled programs (`poses.py` has those on the host)."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from tttlrm_jax.core.types import typechecked


@typechecked
def rigid_inverse(pose: Float[Array, "*batch 4 4"]) -> Float[Array, "*batch 4 4"]:
    """Inverse of rotations with translations: `[R^T, -R^T t]`, no matrix inversion."""
    rotation = jnp.swapaxes(pose[..., :3, :3], -1, -2)
    offset = -jnp.sum(rotation * pose[..., None, :3, 3], axis=-1, keepdims=True)
    top = jnp.concatenate([rotation, offset], axis=-1)
    bottom = jnp.broadcast_to(
        jnp.asarray([0, 0, 0, 1], pose.dtype).reshape((1,) * (pose.ndim - 1) + (4,)),
        (*pose.shape[:-2], 1, 4),
    )
    return jnp.concatenate([top, bottom], axis=-2)
