"""Gradients of a batch from its parts, one after another: memory of a part, numbers of the whole.

Scene `i` goes to part `i % num_parts`, so that on a mesh every device takes its share of each part
from the scenes it holds. All terms of the loss are means over scenes of equal weight, but for
that of depth, which is one over valid pixels: parts divide by the whole batch's count.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from tttlrm_jax.training.objectives.batches import Batch, DepthOfPart

COUNTS = "num_"  # metrics that are sums over the batch begin with it
DECIBELS = "psnr"  # metrics that are -10 log10 of a mean begin with it

Gradient = Callable[[Batch], tuple[Any, dict[str, Array]]]  # batch -> (gradients, metrics)


def accumulated(gradient: Gradient, batch: Batch, num_parts: int) -> tuple[Any, dict[str, Array]]:
    """`gradient(batch)` from `num_parts` equal parts of its scenes.

    `num_parts` divides the number of scenes.
    """
    if num_parts == 1:
        return gradient(batch)
    batch = _with_pixel_share(batch)

    def dealt(x: Array) -> Array:
        return jnp.moveaxis(x.reshape(x.shape[0] // num_parts, num_parts, *x.shape[1:]), 1, 0)

    parts = jax.tree.map(dealt, batch)
    shapes = jax.eval_shape(gradient, jax.tree.map(lambda x: x[0], parts))
    zero = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

    def add(total, part):
        grads, metrics = gradient(part)
        return jax.tree.map(jnp.add, total, (grads, _linear(metrics))), None

    (grads, metrics), _ = jax.lax.scan(add, zero, parts)
    means = jax.tree.map(lambda g: g / num_parts, grads)
    return means, _as_of_whole(metrics, num_parts)


def _with_pixel_share(batch: Batch) -> Batch:
    """The batch with the share of each view's pixels that have depth, over all its scenes."""
    if not isinstance(batch.input_depth, jax.Array):
        return batch
    z = batch.input_depth
    share = jnp.mean((z > 0).astype(z.dtype), axis=(0, 2, 3))
    depth = DepthOfPart(z=z, valid_share=jnp.broadcast_to(share[None], z.shape[:2]))
    return batch.replace(input_depth=depth)


def _linear(metrics: dict[str, Array]) -> dict[str, Array]:
    """Metrics as numbers that add up: decibels as the means they stand for."""
    return {k: 10 ** (-v / 10) if k.startswith(DECIBELS) else v for k, v in metrics.items()}


def _as_of_whole(sums: dict[str, Array], num_parts: int) -> dict[str, Array]:
    def whole(name: str, value: Array) -> Array:
        if name.startswith(COUNTS):
            return value
        mean = value / num_parts
        return -10 * jnp.log10(mean) if name.startswith(DECIBELS) else mean

    return {name: whole(name, value) for name, value in sums.items()}
