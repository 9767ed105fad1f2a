"""Autoregressive training: the stream of a scene, supervised after every chunk.

The inputs arrive in chunks; after each one the targets are rendered from the Gaussians of all
views that have arrived (`train.accumulate`: as read once, after their own chunk, or all of them
read again with the weights of now). The gradient runs through the scan of steps, each of which
is computed again in the backward pass.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from tttlrm_jax.config import ChunkWeights, TrainConfig
from tttlrm_jax.core.types import Gaussians, Views
from tttlrm_jax.models import init_stream, scan_stream, split_into_chunks
from tttlrm_jax.models.streaming import hide_masked
from tttlrm_jax.parallel.mesh import current_layout
from tttlrm_jax.rasterize import Rendering
from tttlrm_jax.training.losses.terms import psnr_of_mse
from tttlrm_jax.training.objectives.batches import VGG19, Batch, Rendered, StaticParts
from tttlrm_jax.training.objectives.gaussians import (
    loss_terms,
    lost_work,
    pruned_for_rendering,
    render_scenes,
    weighted_sum,
)


def chunk_views_at(config: TrainConfig, num_views: int, step: int) -> int:
    """Views per chunk in a step: drawn from `chunk_counts`, or `chunk_views` without them.

    It depends on the seed and the number of the step alone.
    """
    if config.plan != "causal" or not config.chunk_counts:
        return config.chunk_views
    count = np.random.default_rng((config.seed, step)).choice(config.chunk_counts)
    return -(-num_views // int(count))


def loss_weights(kind: ChunkWeights, num_chunks: int) -> np.ndarray:
    """What the loss after each chunk counts, [chunk], of sum 1.

    `uniform`; `linear`, in proportion to the chunks that have arrived; `last` alone.
    """
    weights = {
        "uniform": np.ones(num_chunks),
        "linear": np.arange(1.0, num_chunks + 1),
        "last": np.eye(num_chunks)[-1],
    }[kind]
    return weights / weights.sum()


def psnr_by_name(psnr_of_chunk: Any, chunk_views: int, num_views: int) -> dict[str, Any]:
    """PSNR after each chunk [chunk, ...] by name, e.g. `psnr_after_04_views`."""
    return {
        f"psnr_after_{min((chunk + 1) * chunk_views, num_views):02d}_views": psnr_of_chunk[chunk]
        for chunk in range(len(psnr_of_chunk))
    }


def causal_loss(
    params: Any, static: StaticParts, batch: Batch, key: Array, vgg19: VGG19 | None,
    chunk_views: int,
) -> tuple[Float[Array, ""], dict[str, Array]]:  # fmt: skip
    """Weighted mean over chunks of the loss after each; terms likewise, `psnr` after the last."""
    config = static.config

    def evaluate(chunk, gaussians, arrived):
        key_chunk = jax.random.fold_in(key, chunk)
        terms, rendering = loss_terms(gaussians, batch, config, key_chunk, vgg19, arrived)
        return terms, lost_work(rendering)

    terms, lost = after_every_chunk(params, static, batch.inputs, chunk_views, evaluate)
    losses = weighted_sum(terms, config.loss)
    weights = jnp.asarray(loss_weights(config.train.chunk_weights, len(losses)), losses.dtype)
    psnr = psnr_of_mse(terms["mse"])
    layout = current_layout()
    devices = 1 if layout is None else layout.size("view")
    num_views, arriving = devices * batch.inputs.image.shape[1], devices * chunk_views
    metrics = {name: jnp.sum(weights * term) for name, term in terms.items()}
    metrics |= psnr_by_name(psnr, arriving, num_views)
    loss = jnp.sum(weights * losses)
    lost = jax.tree.map(jnp.sum, lost)
    return loss, dict(metrics, loss=loss, psnr=psnr[-1], **lost)


def causal_renderings(
    params: Any, static: StaticParts, batch: Batch, key: Array, chunk_views: int
) -> Rendering:
    """Renderings of the targets after every chunk, with a leading chunk axis."""

    def evaluate(chunk, gaussians, arrived):
        del arrived
        key_chunk = jax.random.fold_in(key, chunk)
        shown = pruned_for_rendering(gaussians, static.config, key_chunk, batch)
        return render_scenes(shown, batch.targets.cameras, static.config, batch.background)

    return after_every_chunk(params, static, batch.inputs, chunk_views, evaluate)


def causal_images(
    params: Any, static: StaticParts, batch: Batch, key: Array, chunk_views: int
) -> Rendered:
    """The targets after every chunk, and what all of these renderings left out."""
    by_chunk = causal_renderings(params, static, batch, key, chunk_views)
    return Rendered(by_chunk.rgb, lost_work(by_chunk))


def after_every_chunk(
    params: Any,
    static: StaticParts,
    inputs: Views,
    chunk_views: int,
    evaluate: Callable[[Array, Gaussians, Bool[Array, " view"]], Any],
) -> Any:
    """`evaluate(chunk, gaussians, arrived)` after every chunk, stacked by chunk.

    `gaussians` are those of all inputs, in their order; the ones of views that have not
    `arrived` are hidden.
    """
    settings = static.config.train
    batch, num_views = inputs.image.shape[:2]
    chunks = split_into_chunks(inputs, chunk_views)
    state = init_stream(params, batch, graph=static.graph)
    per_view = inputs.cameras.height * inputs.cameras.width

    def call(chunk, gaussians):
        arrived = jnp.arange(num_views) < (chunk + 1) * chunk_views
        gaussians = jax.tree.map(lambda x: x[:, : num_views * per_view], gaussians)
        mask = jnp.broadcast_to(arrived[None], (batch, num_views))
        return evaluate(chunk, hide_masked(gaussians, mask), arrived)

    def scan(emit=None):
        return scan_stream(
            params, state, chunks, graph=static.graph, truncate=settings.truncate_chunks,
            accumulate="all" if settings.accumulate == "all" else "chunk", emit=emit,
        )[1]  # fmt: skip

    if settings.accumulate == "all":
        return scan(emit=call)
    by_chunk = scan()
    gaussians = jax.tree.map(
        lambda x: jnp.moveaxis(x, 0, 1).reshape(batch, -1, *x.shape[3:]), by_chunk
    )
    each = jnp.arange(chunks.views.image.shape[0])
    return jax.lax.map(jax.checkpoint(lambda chunk: call(chunk, gaussians)), each)
