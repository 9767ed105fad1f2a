"""LaCT view synthesis ("TTT-LVSM", arXiv 2505.23884): posed images to pixels of new views.

The blocks are those of tttLRM; target tokens carry a pose and no image, and decode to RGB.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from tttlrm_jax.config import ModelConfig, Plan
from tttlrm_jax.core.precision import accumulation_dtype
from tttlrm_jax.core.types import Cameras, Views
from tttlrm_jax.models.nn.block import run_blocks, stack_blocks
from tttlrm_jax.models.nn.layers import LayerNorm, linear
from tttlrm_jax.models.nn.tokens import (
    INPUT_CHANNELS,
    patchify,
    pose_only_image,
    posed_image,
    unpatchify,
)
from tttlrm_jax.models.streaming import run_stream
from tttlrm_jax.models.trunk import (
    cameras_of,
    check_same_frame,
    check_views,
    plan_operations,
    write_views,
)
from tttlrm_jax.ttt import LayerState, Operation


class LVSM(nnx.Module):
    """Tokenizer, blocks (stacked on a leading layer axis) and RGB decoder."""

    inputs_are_queries = False  # a query has no image

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        patch_area = config.patch_size**2
        self.tokenizer = linear(INPUT_CHANNELS * patch_area, config.d_model, config, rngs=rngs)
        self.input_norm = LayerNorm(config.d_model, config)
        self.blocks = stack_blocks(config, rngs)
        self.decoder_norm = LayerNorm(config.d_model, config)
        self.decoder_linear = linear(config.d_model, 3 * patch_area, config, rngs=rngs)
        self.config = config

    def own_queries(self, batch: int) -> None:
        """None: views are read."""
        del batch

    def tokenize(self, views: Views) -> Float[Array, "batch view token d_model"]:
        """Tokens of input views."""
        check_views(views, self.config.patch_size)
        return self._embed(posed_image(views.image, views.cameras))

    def tokenize_targets(self, cameras: Cameras) -> Float[Array, "batch view token d_model"]:
        """Tokens of views to synthesise: a pose, and zeros for the image."""
        check_views(cameras, self.config.patch_size)
        return self._embed(pose_only_image(cameras))

    def tokenize_queries(
        self, queries: Views | Cameras
    ) -> Float[Array, "batch view token d_model"]:
        """As `tokenize_targets`; images of the queries are not looked at."""
        return self.tokenize_targets(cameras_of(queries))

    def decode_queries(
        self, tokens: Float[Array, "batch view token d_model"], queries: Views | Cameras
    ) -> Float[Array, "batch view height width 3"]:
        """Images in [0, 1] of the queries' cameras."""
        return self.decode(tokens, cameras_of(queries))

    def __call__(
        self, inputs: Views, targets: Cameras, *, plan: Plan = "full", chunk_views: int = 1
    ) -> Float[Array, "batch view height width 3"]:
        """Images in [0, 1] of the target cameras.

        The full plan takes one pass over all tokens; the causal one streams the inputs in chunks
        of `chunk_views`, and reads the targets once all are written.
        """
        check_same_frame(inputs.cameras, targets, "target")
        if plan == "causal":
            return run_stream(self, inputs, targets, chunk_views)
        tokens = jnp.concatenate([self.tokenize(inputs), self.tokenize_targets(targets)], axis=1)
        num_input = inputs.image.shape[1]
        operations = plan_operations(plan, num_input, tokens.shape, chunk_views)
        tokens, _ = run_blocks(self.blocks, tokens, operations, remat=self.config.remat)
        return self.decode(tokens[:, num_input:], targets)

    def reconstruct(
        self,
        inputs: Views,
        plan: Plan = "full",
        chunk_views: int = 1,
        state: LayerState | None = None,
    ) -> LayerState:
        """Writes the input views into fast weights, those of `state` or the learned ones.

        The state has a leading layer axis. A causal stream is one call per chunk with plan full.
        """
        return write_views(self, inputs, plan, chunk_views, state)

    def render(
        self, state: LayerState, targets: Cameras
    ) -> Float[Array, "batch view height width 3"]:
        """Reads the fast weights for each target camera, one view at a time."""
        tokens = self.tokenize_targets(targets)
        operations = (Operation(0, tokens.shape[2], apply=True),)
        remat = self.config.remat

        def one_view(view):
            return run_blocks(self.blocks, view[:, None], operations, state, remat)[0][:, 0]

        tokens = jnp.moveaxis(jax.lax.map(one_view, jnp.moveaxis(tokens, 1, 0)), 0, 1)
        return self.decode(tokens, targets)

    def decode(self, tokens: Array, targets: Cameras) -> Array:
        """`sigmoid(linear(norm(tokens)))` as images."""
        raw = self.decoder_linear(self.decoder_norm(tokens))
        pixels = jax.nn.sigmoid(raw.astype(accumulation_dtype(raw.dtype)))
        return unpatchify(pixels, targets.height, targets.width, self.config.patch_size)

    def _embed(self, image: Array) -> Array:
        return self.input_norm(self.tokenizer(patchify(image, self.config.patch_size)))
