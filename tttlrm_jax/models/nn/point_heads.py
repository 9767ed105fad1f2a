"""Heads: tokens of one frame to points in two frames, their confidences, colours and a pose.

The self view is the camera's own frame; the world is that of the first camera. Taps are the
encoder's tokens and those after a half, three quarters and all of the decoder's layers.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from tttlrm_jax.config import Remat
from tttlrm_jax.config.ttt3r import TTT3RConfig
from tttlrm_jax.core.precision import safe_norm
from tttlrm_jax.core.types import typechecked
from tttlrm_jax.models.nn.dpt import DPTAdapter
from tttlrm_jax.models.nn.rope_blocks import BiasedMLP, ModulatedBlock
from tttlrm_jax.models.nn.stacking import apply_modules, stack_modules

POINT_CHANNELS = 4  # x, y, z, confidence
RGB_CHANNELS = 3
POSE_CHANNELS = 7  # translation, quaternion wxyz
TINY = 1e-8  # smallest length that a vector is divided by
TINY_QUATERNION = 1e-12
RGB_MARGIN = 1e-6  # colours stay this far from 0 and 1


@typechecked
def grow_exponentially(x: Float[Array, "*batch 3"]) -> Float[Array, "*batch 3"]:
    """The vector in the same direction with length `expm1(|x|)`; 0 stays 0."""
    length = safe_norm(x, axis=-1)
    return x / jnp.maximum(length, TINY) * jnp.expm1(length)


@typechecked
def decode_points(
    raw: Float[Array, "*batch 4"], in_front: bool = False
) -> tuple[Float[Array, "*batch 3"], Float[Array, "*batch"]]:
    """Points, and confidences of at least 1. `in_front` flips points with negative z.

    The flip is the linear head's own: xyz times the sign of z, so that z = 0 gives the origin.
    """
    xyz = raw[..., :3]
    if in_front:
        xyz = xyz * jnp.sign(xyz[..., 2:])
    return grow_exponentially(xyz), 1 + jnp.exp(raw[..., 3])


@typechecked
def decode_rgb(raw: Float[Array, "*batch 3"]) -> Float[Array, "*batch 3"]:
    """Colours in (0, 1)."""
    return jax.nn.sigmoid(raw) * (1 - 2 * RGB_MARGIN) + RGB_MARGIN


@typechecked
def decode_pose(raw: Float[Array, "*batch 7"]) -> Float[Array, "*batch 7"]:
    """Translation and unit quaternion with w >= 0; a zero quaternion stays zero."""
    quaternion = raw[..., 3:]
    quaternion = quaternion / jnp.maximum(safe_norm(quaternion, axis=-1), TINY_QUATERNION)
    quaternion = jnp.where(quaternion[..., :1] < 0, -quaternion, quaternion)
    return jnp.concatenate([grow_exponentially(raw[..., :3]), quaternion], axis=-1)


class PointHead(nnx.Module):
    """What both heads share: the pose, and the tokens of the world-frame points."""

    linear_self_view = False  # whether points of the self view are flipped to the front

    def __init__(self, config: TTT3RConfig, *, rngs: nnx.Rngs):
        width = config.decoder_width
        hidden = int(width * config.mlp_factor)

        def block(rngs: nnx.Rngs) -> ModulatedBlock:
            return ModulatedBlock(width, config.decoder_heads, config, rngs)

        self.pose = BiasedMLP(width, hidden, POSE_CHANNELS, config, rngs)
        self.world_blocks = stack_modules(block, config.head_depth, rngs)
        self.depth = config.head_depth
        self.remat: Remat = config.remat

    def world_tokens(self, tokens: Array, pose_token: Array, positions: Array) -> Array:
        """Image tokens as the pose token moves them into the world."""
        return apply_modules(self.world_blocks, tokens, pose_token, positions, remat=self.remat)

    def maps(self, taps, world_tokens, rows: int, columns: int) -> tuple[Array, Array, Array]:
        """Raw channels per pixel: self view, world, colour."""
        raise NotImplementedError

    def __call__(
        self,
        taps: tuple[Float[Array, "batch token _"], ...],
        pose_token: Float[Array, "batch d_model"],
        positions: Array,
        rows: int,
        columns: int,
    ) -> dict[str, Array]:
        """Everything about one frame, by the names of `FrameOutput`, in at least float32."""
        world = self.world_tokens(taps[-1], pose_token, positions)
        wide = jnp.promote_types(pose_token.dtype, jnp.float32)
        maps = self.maps(taps, world, rows, columns)
        raw_self, raw_world, raw_rgb = (each.astype(wide) for each in maps)
        points_self, confidence_self = decode_points(raw_self, self.linear_self_view)
        points_world, confidence_world = decode_points(raw_world)
        return {
            "points_self": points_self,
            "confidence_self": confidence_self,
            "points_world": points_world,
            "confidence_world": confidence_world,
            "camera_pose": decode_pose(self.pose(pose_token).astype(wide)),
            "rgb": decode_rgb(raw_rgb),
        }


class DPTHead(PointHead):
    """The head of the published 512 px weights."""

    def __init__(self, config: TTT3RConfig, *, rngs: nnx.Rngs):
        super().__init__(config, rngs=rngs)
        self.self_view = DPTAdapter(POINT_CHANNELS, config, rngs)
        self.world = DPTAdapter(POINT_CHANNELS, config, rngs)
        self.rgb = DPTAdapter(RGB_CHANNELS, config, rngs)

    def maps(self, taps, world_tokens, rows: int, columns: int) -> tuple[Array, Array, Array]:
        moved = (*taps[:-1], world_tokens)
        return (
            self.self_view(taps, rows, columns),
            self.world(moved, rows, columns),
            self.rgb(taps, rows, columns),
        )


class LinearHead(PointHead):
    """The head of the published 224 px weights: an MLP per token, and its pixels in place."""

    linear_self_view = True

    def __init__(self, config: TTT3RConfig, *, rngs: nnx.Rngs):
        super().__init__(config, rngs=rngs)
        width, pixels = config.decoder_width, config.patch_size**2
        hidden = int(width * config.mlp_factor)

        def mlp(channels: int) -> BiasedMLP:
            return BiasedMLP(width, hidden, channels * pixels, config, rngs)

        self.self_view, self.world = mlp(POINT_CHANNELS), mlp(POINT_CHANNELS)
        self.rgb = mlp(RGB_CHANNELS)
        self.patch_size = config.patch_size

    def maps(self, taps, world_tokens, rows: int, columns: int) -> tuple[Array, Array, Array]:
        def pixels(mlp: BiasedMLP, tokens: Array) -> Array:
            return channels_to_pixels(mlp(tokens), rows, columns, self.patch_size)

        own = taps[-1]
        return pixels(self.self_view, own), pixels(self.world, world_tokens), pixels(self.rgb, own)


@typechecked
def channels_to_pixels(
    tokens: Float[Array, "batch token feature"], rows: int, columns: int, patch: int
) -> Float[Array, "batch height width channel"]:
    """Features in (channel, row, column) order to an image."""
    x = tokens.reshape(tokens.shape[0], rows, columns, -1, patch, patch)
    x = x.transpose(0, 1, 4, 2, 5, 3)
    return x.reshape(x.shape[0], rows * patch, columns * patch, -1)
