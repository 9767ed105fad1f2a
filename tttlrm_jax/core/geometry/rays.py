"""Viewing rays of pinhole cameras, in JAX.

Pixel (row i, column j) has its centre at (j + 0.5, i + 0.5). Directions are unit vectors in world
space; origins are camera centres, repeated over the image. Everything is computed in the dtype of
the poses with highest matmul precision and is differentiable in poses and intrinsics.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from tttlrm_jax.core.types import Cameras, typechecked


@typechecked
def camera_directions(
    intrinsics: Float[Array, "*batch 4"], height: int, width: int
) -> Float[Array, "*batch {height} {width} 3"]:
    """Camera-space directions with z = 1: ((x - cx) / fx, (y - cy) / fy, 1)."""
    dtype = intrinsics.dtype
    fx, fy, cx, cy = (intrinsics[..., k, None] for k in range(4))
    lead = (1,) * (intrinsics.ndim - 1)
    column = jnp.reshape(jnp.arange(width, dtype=dtype) + 0.5, (*lead, width))
    row = jnp.reshape(jnp.arange(height, dtype=dtype) + 0.5, (*lead, height))
    shape = (*intrinsics.shape[:-1], height, width)
    x = jnp.broadcast_to(((column - cx) / fx)[..., None, :], shape)
    y = jnp.broadcast_to(((row - cy) / fy)[..., :, None], shape)
    return jnp.stack([x, y, jnp.ones(shape, dtype)], axis=-1)


def camera_rays(
    cameras: Cameras,
) -> tuple[Float[Array, "*batch height width 3"], Float[Array, "*batch height width 3"]]:
    """Ray origins and unit directions in world space, [..., height, width, 3] each."""
    pose = jnp.asarray(cameras.world_from_camera)
    intrinsics = jnp.asarray(cameras.intrinsics, pose.dtype)
    local = camera_directions(intrinsics, cameras.height, cameras.width)
    rotation, centre = pose[..., :3, :3], pose[..., :3, 3]
    direction = jnp.einsum(
        "...ij,...hwj->...hwi", rotation, local, precision=jax.lax.Precision.HIGHEST
    )
    direction = direction / jnp.sqrt(jnp.sum(direction * direction, axis=-1, keepdims=True))
    origin = jnp.broadcast_to(centre[..., None, None, :], direction.shape)
    return origin, direction


@typechecked
def plucker(
    origin: Float[Array, "*batch 3"], direction: Float[Array, "*batch 3"]
) -> Float[Array, "*batch 9"]:
    """Origin, direction and moment origin x direction, concatenated in this order."""
    return jnp.concatenate([origin, direction, jnp.cross(origin, direction)], axis=-1)
