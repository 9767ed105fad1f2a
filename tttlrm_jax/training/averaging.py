"""Exponential moving average of a run's parameters, for evaluation.

The average lies in the training state, in at least float32, and is sharded as the parameters are.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from tttlrm_jax.core.precision import accumulation_dtype


def initial_average(params: Any) -> Any:
    """The average before the first step: a copy of the parameters."""
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
