"""tttLRM (arXiv 2602.20160): posed images to Gaussians, or other scenes, through fast weights.

Input views write the fast weights of every layer; virtual views, whose pixels carry the
predicted Gaussians, read them. Where the virtual views are the input views themselves their
tokens pass through the same computation as the input tokens, so they are computed once. A decoder
with query tokens of its own (triplanes) has these in place of virtual views.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from tttlrm_jax.config import ModelConfig, Plan
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.types import Cameras, Gaussians, Views
from tttlrm_jax.models.decoders import decoder_of
from tttlrm_jax.models.nn.block import run_blocks, stack_blocks
from tttlrm_jax.models.nn.layers import LayerNorm, linear
from tttlrm_jax.models.nn.tokens import INPUT_CHANNELS, patchify, posed_image
from tttlrm_jax.models.streaming import NO_CONTENT, read_own, run_stream
from tttlrm_jax.models.trunk import check_same_frame, check_views, plan_operations, write_views


class TTTLRM(nnx.Module):
    """Tokenizer, blocks (stacked on a leading layer axis) and the decoder of `model.decoder`."""

    inputs_are_queries = True  # a query is tokenised as the same view would be as an input

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        patch_features = INPUT_CHANNELS * config.patch_size**2
        self.tokenizer = linear(patch_features, config.d_model, config, rngs=rngs)
        self.input_norm = LayerNorm(config.d_model, config)
        self.blocks = stack_blocks(config, rngs)
        self.decoder = decoder_of(config)(config, rngs=rngs)
        self.config = config

    def tokenize(self, views: Views) -> Float[Array, "batch view token d_model"]:
        """Patch tokens after the input norm."""
        check_views(views, self.config.patch_size)
        patches = patchify(posed_image(views.image, views.cameras), self.config.patch_size)
        return self.input_norm(self.tokenizer(patches))

    def tokenize_queries(
        self, queries: Views | Cameras
    ) -> Float[Array, "batch view token d_model"]:
        """Tokens of views that are read; cameras alone carry zeros for the image."""
        return self.tokenize(_with_image(queries))

    def decode_queries(
        self, tokens: Float[Array, "batch view token d_model"], queries: Views | Cameras
    ) -> Any:
        """What the decoder makes of the queries: Gaussians of their pixels."""
        return self.decoder(tokens, _with_image(queries))

    def own_queries(self, batch: int) -> Float[Array, "batch group token d_model"] | None:
        """The decoder's own tokens, of any number, that read the fast weights; None: views do."""
        return self.decoder.queries(batch)

    def decode_own(self, tokens: Float[Array, "batch group token d_model"]) -> Any:
        """The scenes from the decoder's own tokens."""
        return self.decoder(tokens, None)

    def __call__(
        self,
        inputs: Views,
        virtual: Views | Cameras | None = None,
        *,
        virtual_indices: Int[Array, "batch virtual"] | None = None,
        plan: Plan = "full",
        chunk_views: int = 1,
    ) -> Any:
        """Gaussians `[batch, virtual view x height x width]`, before pruning, or the scenes of
        another decoder.

        Virtual views are the inputs by default, the inputs that `virtual_indices` selects, or
        any posed images of the input size given as `virtual` (cameras alone count as images
        without content, on which tttLRM was not trained). `chunk_views` is the number of
        views per update of the sequential and causal plans. The causal plan streams the inputs
        (see `streaming`), and reads the virtual views once all chunks are written.

        Raises InputError for sizes that are not a multiple of the patch, a chunk larger than the
        stream, or, in the sequential plan, one that does not divide the input views; and for
        virtual views where the decoder has tokens of its own.
        """
        if self.decoder.queries(1) is not None:
            return self._of_own_queries(inputs, virtual, virtual_indices, plan, chunk_views)
        if virtual is not None and virtual_indices is not None:
            raise InputError("virtual and virtual_indices are both given; give one of them")
        if virtual is not None:
            virtual = _with_image(virtual)
            check_same_frame(inputs.cameras, virtual.cameras, "virtual")
        if plan == "causal":
            queries = select_views(inputs, virtual_indices) if virtual is None else virtual
            return run_stream(self, inputs, queries, chunk_views)
        tokens = self.tokenize(inputs)
        num_input = tokens.shape[1]
        if virtual is not None:
            tokens = jnp.concatenate([tokens, self.tokenize(virtual)], axis=1)
        operations = plan_operations(plan, num_input, tokens.shape, chunk_views)
        tokens, _ = run_blocks(self.blocks, tokens, operations, remat=self.config.remat)
        if virtual is not None:
            return self.decoder(tokens[:, num_input:], virtual)
        chosen = select_views(inputs, virtual_indices)
        return self.decoder(select_views(tokens, virtual_indices), chosen)

    def _of_own_queries(self, inputs: Views, virtual, virtual_indices, plan, chunk_views) -> Any:
        if virtual is not None or virtual_indices is not None:
            raise InputError.of(
                "virtual views", "given", f"are not read by model.decoder={self.config.decoder}",
                "leave them out",
            )  # fmt: skip
        if plan == "causal":
            return run_stream(self, inputs, None, chunk_views)
        state = write_views(self, inputs, plan, chunk_views)
        return read_own(self, state, inputs.image.shape[0])


def _with_image(queries: Views | Cameras) -> Views:
    """The queries with an image; that of cameras alone has zeros for input channels."""
    if isinstance(queries, Views):
        return queries
    shape = (*queries.intrinsics.shape[:-1], queries.height, queries.width, 3)
    return Views(jnp.full(shape, NO_CONTENT, queries.intrinsics.dtype), queries)


def select_views(tree: Any, indices: Int[Array, "batch chosen"] | None) -> Any:
    """Entries along the second axis of every array; None: all."""
    if indices is None:
        return tree

    def select(x):
        index = indices.reshape(*indices.shape, *(1,) * (x.ndim - 2))
        return jnp.take_along_axis(x, index, axis=1)

    return jax.tree.map(select, tree)


def keep_counts(num_gaussians: int, keep_ratio: float, random_ratio: float) -> tuple[int, int]:
    """How many Gaussians pruning keeps by opacity, and how many of the others at random."""
    for field, value in (("keep_ratio", keep_ratio), ("random_ratio", random_ratio)):
        if not 0 <= value <= 1:
            raise InputError.of(field, value, "is not in [0, 1]", "give a share of the Gaussians")
    keep = int(keep_ratio * num_gaussians)
    return keep, min(int((1 - keep_ratio) * random_ratio * num_gaussians), num_gaussians - keep)


def prune(
    gaussians: Gaussians,
    keep_ratio: float = 0.4,
    random_ratio: float = 0.1,
    key: Array | None = None,
) -> Gaussians:
    """Keeps the most opaque share and a random share of the rest.

    `gaussians` has axes `[batch, gaussian]`; the result is ordered by descending opacity, then
    the random ones. Random positions in the sorted remainder are the same for all scenes of the
    batch, and need `key` unless `random_ratio` is 0.
    """
    kept = kept_indices(gaussians.opacity_logit, keep_ratio, random_ratio, key)
    return select_views(gaussians, kept)


def kept_indices(
    opacity_logit: Float[Array, "batch gaussian"],
    keep_ratio: float,
    random_ratio: float,
    key: Array | None = None,
) -> Int[Array, "batch kept"]:
    """Which Gaussians `prune` keeps, in its order."""
    num_gaussians = opacity_logit.shape[1]
    num_keep, num_random = keep_counts(num_gaussians, keep_ratio, random_ratio)
    order = jnp.argsort(-opacity_logit, axis=1, stable=True)
    kept = order[:, :num_keep]
    if num_random == 0:
        return kept
    if key is None:
        raise InputError("prune key=None but random_ratio is not 0; give a random key")
    lucky = jax.random.permutation(key, num_gaussians - num_keep)[:num_random]
    return jnp.concatenate([kept, order[:, num_keep:][:, lucky]], axis=1)


def gaussian_usage(gaussians: Gaussians, threshold: float = 0.001) -> Float[Array, " batch"]:
    """Share of each scene's Gaussians whose opacity exceeds `threshold`."""
    opacity = jax.nn.sigmoid(gaussians.opacity_logit)
    return jnp.mean((opacity > threshold).astype(opacity.dtype), axis=1)
