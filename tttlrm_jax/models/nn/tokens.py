"""Posed images to patch vectors and back."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from tttlrm_jax.core.geometry.rays import camera_rays, plucker
from tttlrm_jax.core.types import Cameras, typechecked

INPUT_CHANNELS = 12  # of a view: Plücker rays and RGB


@typechecked
def patchify(
    image: Float[Array, "*batch height width channel"], patch: int
) -> Float[Array, "*batch token patch_channel"]:
    """Tokens in (patch row, patch column) order; features in (row, column, channel) order."""
    *batch, height, width, channel = image.shape
    x = image.reshape(*batch, height // patch, patch, width // patch, patch, channel)
    x = jnp.swapaxes(x, -4, -3)
    return x.reshape(*batch, (height // patch) * (width // patch), patch * patch * channel)


@typechecked
def unpatchify(
    tokens: Float[Array, "*batch token patch_channel"], height: int, width: int, patch: int
) -> Float[Array, "*batch height width channel"]:
    """Inverse of `patchify`."""
    *batch, _, features = tokens.shape
    channel = features // (patch * patch)
    x = tokens.reshape(*batch, height // patch, width // patch, patch, patch, channel)
    return jnp.swapaxes(x, -4, -3).reshape(*batch, height, width, channel)


def plucker_image(cameras: Cameras) -> Float[Array, "*batch height width 9"]:
    """Per pixel: ray origin, unit direction, origin x direction."""
    return plucker(*camera_rays(cameras))


def posed_image(
    image: Float[Array, "*batch height width 3"], cameras: Cameras
) -> Float[Array, "*batch height width 12"]:
    """The 12 channels of a posed view: Plücker rays and `2 * image - 1`."""
    return jnp.concatenate([plucker_image(cameras), 2 * image - 1], axis=-1)


def pose_only_image(cameras: Cameras) -> Float[Array, "*batch height width 12"]:
    """The 12 channels of a view without image content: Plücker rays and zeros."""
    rays = plucker_image(cameras)
    return jnp.concatenate([rays, jnp.zeros_like(rays[..., :3])], axis=-1)
