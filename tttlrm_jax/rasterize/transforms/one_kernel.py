"""Nested loops that XLA:CPU compiles as one function of one thread.

Otherwise it starts each operation of a loop's body apart, and small arrays go through memory
between two of them. Calls of several such functions in one program do not run side by side;
`in_parts` has what does.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import custom_batching, lax
from jax.experimental.xla_metadata import set_xla_metadata

from tttlrm_jax.core.devices import target_device


def one_kernel(function: Callable) -> Callable:
    """`function(static, *arrays)` with a hashable `static`, compiled as said above on CPU.

    Its body may hold loops, elementwise operations, slices and updates of them; nothing that XLA
    may compile as a library call: no sorts, matrix products and sums along an axis of floats. It
    must be called under `jit`, and no array may be empty.
    """

    @functools.partial(jax.jit, static_argnums=0)
    @functools.wraps(function)
    def compiled(static, *arrays):
        numbers = [x[(0,) * x.ndim].astype(jnp.float32) for x in jax.tree.leaves(arrays)]
        return function(static, *arrays), lax.stop_gradient(functools.reduce(jnp.add, numbers))

    @functools.wraps(function)
    def call(static, *arrays):
        if target_device().platform != "cpu":
            return compiled(static, *arrays)[0]
        # XLA's compiler ends the process where a kernel does not read one of its inputs: `read`
        # comes from all, barriers keep XLA from seeing constants in them and JAX from dropping it.
        results, read = compiled(static, *jax.tree.map(lax.optimization_barrier, arrays))
        # Attributes of XLA's own pass for small loops; where they are unknown nothing changes.
        marked: Any = set_xla_metadata(
            (results, read), xla_cpu_small_call="true", inlineable="false"
        )
        results, read = marked
        leaves, structure = jax.tree.flatten(results)
        leaves[0], _ = lax.optimization_barrier((leaves[0], read))
        return jax.tree.unflatten(structure, leaves)

    return call


def one_by_one(function: Callable) -> Callable:
    """`function(static, *arrays)`, whose mapped scenes are taken one after another."""

    def mapped(static: Any, *arrays):
        run: Any = custom_batching.sequential_vmap(functools.partial(function, static))
        return run(*arrays)

    return mapped


def at(array, index):
    """`array[index]` along the first axis, for an index that is known to be inside."""
    return lax.dynamic_index_in_dim(
        array, index, axis=0, keepdims=False, allow_negative_indices=False
    )


def put(array, value, index):
    """`array.at[index].set(value)` along the first axis, for an index known to be inside."""
    return lax.dynamic_update_index_in_dim(
        array, value, index, axis=0, allow_negative_indices=False
    )
