"""The network of CUT3R (arXiv 2501.12387), which TTT3R runs: encoders, decoder, memory, heads.

Every method is a function of arrays: what goes from frame to frame is in `models.ttt3r`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from tttlrm_jax.config.ttt3r import TTT3RConfig
from tttlrm_jax.models.nn.layers import LINEAR_INIT_STD, linear
from tttlrm_jax.models.nn.point_heads import DPTHead, LinearHead
from tttlrm_jax.models.nn.pose_memory import PoseMemory
from tttlrm_jax.models.nn.rope import grid_positions, pose_position, state_positions
from tttlrm_jax.models.nn.rope_blocks import BiasedLayerNorm, DecoderBlock, EncoderBlock
from tttlrm_jax.models.nn.stacking import apply_modules, scan_modules, stack_modules
from tttlrm_jax.models.nn.tokens import patchify

HEADS = {"dpt": DPTHead, "linear": LinearHead}
RGB_CHANNELS = 3
RAY_CHANNELS = 6


class Decoded(NamedTuple):
    """One frame and the state, decoded together."""

    candidate: Float[Array, "batch state d_model"]  # what the state would become
    pose_token: Float[Array, "batch 1 d_model"]
    taps: tuple[Array, ...]  # image tokens [batch, token, _] of four depths, for the heads
    alignment: Float[Array, "batch layer head state"]
    rate_logits: Float[Array, "batch state"] | None  # of a network with `state_rate`


class RateGates(nnx.Module):
    """Learned rates of the state tokens, as logits; all 0 at the start: rate 0.5.

    `model.state_rate="scalar"`: one number. `"input"`: an affine function of each candidate token
    and of the frame's mean token.
    """

    def __init__(self, config: TTT3RConfig):
        width, dtype = config.decoder_width, config.param_dtype
        self.bias = nnx.Param(jnp.zeros((1,), dtype))
        if config.state_rate == "input":
            self.candidate = nnx.Param(jnp.zeros((width,), dtype))
            self.frame = nnx.Param(jnp.zeros((width,), dtype))
        self.by_input = config.state_rate == "input"

    def __call__(
        self,
        candidate: Float[Array, "batch state d_model"],
        image_tokens: Float[Array, "batch token d_model"],
    ) -> Float[Array, "batch state"]:
        logits = jnp.broadcast_to(self.bias[...], candidate.shape[:2]).astype(candidate.dtype)
        if not self.by_input:
            return logits
        seen = jnp.mean(image_tokens, axis=1) @ self.frame[...]
        return logits + candidate @ self.candidate[...] + seen[:, None]


class TTT3R(nnx.Module):
    """Parameters and the parts of one frame's way through the network."""

    def __init__(self, config: TTT3RConfig, *, rngs: nnx.Rngs):
        encoder, decoder = config.encoder_width, config.decoder_width
        normal, dtype = nnx.initializers.normal(LINEAR_INIT_STD), config.param_dtype

        def learned(*shape: int) -> nnx.Param:
            return nnx.Param(normal(rngs.params(), shape, dtype))

        def affine(in_features: int, out_features: int):
            return linear(in_features, out_features, config, rngs=rngs, use_bias=True)

        def encoder_stack(depth: int, heads: int, half_rope: bool) -> EncoderBlock:
            return stack_modules(
                lambda rngs: EncoderBlock(encoder, heads, config, rngs, half_rope), depth, rngs
            )

        def branch(heads: int) -> DecoderBlock:
            return stack_modules(
                lambda rngs: DecoderBlock(decoder, heads, config, rngs), config.decoder_depth, rngs
            )

        pixels = config.patch_size**2
        self.image_patches = affine(RGB_CHANNELS * pixels, encoder)
        self.image_encoder = encoder_stack(
            config.encoder_depth, config.encoder_heads, config.half_rope
        )
        self.image_encoder_norm = BiasedLayerNorm(encoder, config)
        self.ray_patches = affine(RAY_CHANNELS * pixels, encoder)
        self.ray_encoder = encoder_stack(config.ray_encoder_depth, config.ray_encoder_heads, False)
        self.ray_encoder_norm = BiasedLayerNorm(encoder, config)
        self.missing_image = learned(1, encoder)
        self.missing_rays = learned(1, encoder)
        self.pose_token = learned(1, 1, decoder)
        self.image_projection = affine(encoder, decoder)
        self.image_branch = branch(config.decoder_heads)
        self.image_norm = BiasedLayerNorm(decoder, config)
        self.state_tokens = learned(config.num_state_tokens, encoder)
        self.state_projection = affine(encoder, decoder)
        self.state_branch = branch(config.state_heads)
        self.state_norm = BiasedLayerNorm(decoder, config)
        self.memory = PoseMemory(config, rngs=rngs)
        self.head = HEADS[config.head](config, rngs=rngs)
        if config.state_rate != "none":  # else published names stay exact
            self.rule_gates = RateGates(config)
        self.config = config

    @property
    def wide_dtype(self) -> jnp.dtype:
        """Of everything between layers: float32, or float64 where parameters are."""
        return jnp.promote_types(self.config.param_dtype, jnp.float32)

    def grid(self, image: Array) -> tuple[int, int]:
        """Rows and columns of patches of images `[batch, height, width, channel]`."""
        return image.shape[1] // self.config.patch_size, image.shape[2] // self.config.patch_size

    def encode_image(
        self, image: Float[Array, "batch height width 3"]
    ) -> Float[Array, "batch token d_encoder"]:
        """Tokens of RGB in [0, 1]."""
        patches, encoder = self.image_patches, self.image_encoder
        return self._encode(2 * image - 1, patches, encoder, self.image_encoder_norm)

    def encode_rays(
        self, ray_map: Float[Array, "batch height width 6"]
    ) -> Float[Array, "batch token d_encoder"]:
        """Tokens of ray maps: origin and direction of every pixel."""
        return self._encode(ray_map, self.ray_patches, self.ray_encoder, self.ray_encoder_norm)

    def _encode(self, pixels, patches, encoder, norm) -> Array:
        positions = _per_sample(grid_positions(*self.grid(pixels)), pixels.shape[0])
        x = patches(patchify(pixels, self.config.patch_size)).astype(self.wide_dtype)
        return norm(apply_modules(encoder, x, positions, remat=self.config.remat))

    def initial_tokens(self, batch: int) -> Float[Array, "batch state d_model"]:
        """The state before any frame: learned tokens, projected, without a norm."""
        tokens = self.state_projection(self.state_tokens[...]).astype(self.wide_dtype)
        return _per_sample(tokens, batch)

    def initial_pose_token(self, batch: int) -> Float[Array, "batch 1 d_model"]:
        """The pose token of a first frame."""
        return _per_sample(self.pose_token[0], batch)

    def positions(self, rows: int, columns: int, batch: int) -> tuple[Array, Array | None]:
        """Positions of the image branch (pose token first) and of the state."""
        image = jnp.concatenate([pose_position(), grid_positions(rows, columns)])
        state = state_positions(self.config.num_state_tokens, self.config.state_positions)
        return _per_sample(image, batch), None if state is None else _per_sample(state, batch)

    def decode(
        self,
        tokens: Float[Array, "batch token d_encoder"],
        pose_token: Float[Array, "batch 1 d_model"],
        state: Float[Array, "batch state d_model"],
        rows: int,
        columns: int,
    ) -> Decoded:
        """Both branches, layer by layer and in parallel, and their final norms."""
        image, state, (layers, alignment) = self.run_branches(
            tokens, pose_token, state, rows, columns
        )
        depth = self.config.decoder_depth
        inner = tuple(layers[depth * quarters // 4 - 1][:, 1:] for quarters in (2, 3))
        image, candidate = self.image_norm(image), self.state_norm(state)
        learned = self.config.state_rate != "none"
        return Decoded(
            candidate=candidate,
            pose_token=image[:, :1],
            taps=(tokens, *inner, image[:, 1:]),
            alignment=jnp.swapaxes(alignment, 0, 1),
            rate_logits=self.rule_gates(candidate, image[:, 1:]) if learned else None,
        )

    def run_branches(
        self, tokens, pose_token, state, rows: int, columns: int,
        observe: Callable[..., Any] | None = None,
    ) -> tuple[Array, Array, tuple[Any, ...]]:  # fmt: skip
        """Image and state tokens after the last layer, and by layer image tokens and alignment.

        Each layer's branches both start from the layer before. `observe(state_block, state,
        image, state_positions, image_positions)` adds what it returns to the values by layer.
        """
        image_positions, state_positions = self.positions(rows, columns, tokens.shape[0])
        image = self.image_projection(tokens).astype(state.dtype)
        image = jnp.concatenate([pose_token.astype(state.dtype), image], axis=1)

        def layer(blocks, branches):
            image_block, state_block = blocks
            image, state = branches
            moved, alignment = state_block(state, image, state_positions, image_positions)
            seen, _ = image_block(image, state, image_positions, state_positions)
            kept = (seen, alignment)
            if observe is not None:
                kept += (observe(state_block, state, image, state_positions, image_positions),)
            return (seen, moved), kept

        stacks = (self.image_branch, self.state_branch)
        (image, state), kept = scan_modules(stacks, layer, (image, state), self.config.remat)
        return image, state, kept

    def predict(self, decoded: Decoded, rows: int, columns: int) -> dict[str, Array]:
        """What the head says about the frame, by the names of `FrameOutput`."""
        positions = _per_sample(grid_positions(rows, columns), decoded.pose_token.shape[0])
        return self.head(decoded.taps, decoded.pose_token[:, 0], positions, rows, columns)


def _per_sample(x: Array, batch: int) -> Array:
    return jnp.broadcast_to(x[None], (batch, *x.shape))
