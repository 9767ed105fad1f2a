"""AdamW as the paper uses it, the guard around its steps, and the average of the weights."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from tttlrm_jax.config import OptimizerConfig
from tttlrm_jax.core.precision import accumulation_dtype

STACKED = "blocks"  # parameters below this name carry a leading layer axis


def lr_schedule(config: OptimizerConfig, num_steps: int) -> optax.Schedule:
    """Linear warm-up to the peak, cosine decay to zero at `num_steps`."""
    warmup = min(config.warmup_steps, num_steps)
    until = max(num_steps, warmup + 1)
    return optax.warmup_cosine_decay_schedule(
        init_value=0.0, peak_value=config.peak_lr, warmup_steps=warmup, decay_steps=until
    )


def decayed(params: Any) -> Any:
    """True for kernels and, in the stack of blocks, all matrices (two or more axes in one layer):
    initial fast weights too, norms, biases and tokens not."""

    def is_decayed(path, leaf) -> bool:
        names = [getattr(key, "key", None) for key in path]
        return names[-1] == "kernel" or (STACKED in names and leaf.ndim - 1 >= 2)

    return jax.tree_util.tree_map_with_path(is_decayed, params)


def make_optimizer(config: OptimizerConfig, num_steps: int) -> optax.GradientTransformation:
    """AdamW with the schedule; weight decay on matrices only."""
    return optax.adamw(
        lr_schedule(config, num_steps), b1=config.beta1, b2=config.beta2,
        weight_decay=config.weight_decay, mask=decayed,
    )  # fmt: skip


def guarded_gradients(
    grads: Any, loss: Float[Array, ""], step: Int[Array, ""], config: OptimizerConfig
) -> tuple[Any, Float[Array, ""], Bool[Array, ""]]:
    """Clips by global norm and judges the step.

    Returns the gradients, their norm before clipping, and whether to take the step: never
    with a non-finite loss or norm; from `guard_from_step` on, not with a norm above `skip_norm`.
    """
    norm = optax.global_norm(grads)
    guarded = step >= config.guard_from_step
    accept = jnp.isfinite(norm) & jnp.isfinite(loss) & ~(guarded & (norm > config.skip_norm))
    factor = jnp.where(guarded, jnp.minimum(1.0, config.clip_norm / (norm + 1e-12)), 1.0)
    return jax.tree.map(lambda g: g * factor.astype(g.dtype), grads), norm, accept


def part_of(path: tuple[str, ...]) -> str:
    """The part of a model that a parameter belongs to, by its path: `tokenizer`, `decoder`, and in
    the blocks `attention`, `ttt` and `mlp`, each with its norm; of other models the first word."""
    if path[0] == STACKED:
        return path[1].removesuffix("_norm")
    return "tokenizer" if path[0] == "input_norm" else path[0].split("_")[0]


def norms_by_part(grads: Any) -> dict[str, Float[Array, ""]]:
    """Norm of the gradients of each part of a model, `grad_norm/PART`: their squares sum up to that
    of the whole."""
    squares: dict[str, list[Array]] = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(grads)[0]:
        names = tuple(str(getattr(key, "key", key)) for key in path)
        squares.setdefault(part_of(names), []).append(jnp.sum(jnp.square(leaf)))
    return {f"grad_norm/{part}": jnp.sqrt(sum(each)) for part, each in sorted(squares.items())}


def initial_average(params: Any) -> Any:
    """The exponential moving average of the parameters before the first step: a copy, in at least
    float32, sharded as they are."""
    return jax.tree.map(lambda p: jnp.array(p, accumulation_dtype(p.dtype)), params)


def moved_average(average: Any, params: Any, num_taken: Int[Array, ""], decay: float) -> Any:
    """`d average + (1 - d) params` with `d = min(decay, (1 + n) / (10 + n))`.

    `num_taken` is n, the steps that led to `params`: early on the initial parameters are soon
    forgotten.
    """
    n = num_taken.astype(jnp.float32)
    d = jnp.minimum(decay, (1 + n) / (10 + n))

    def moved(a: Array, p: Array) -> Array:
        return a + (1 - d).astype(a.dtype) * (p.astype(a.dtype) - a)

    return jax.tree.map(moved, average, params)
