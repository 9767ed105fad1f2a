"""Nested loops that XLA:CPU compiles as one function of one thread.

Otherwise it starts each operation of a loop's body apart, and small arrays go through memory
between two of them. Calls of several such functions run side by side.
"""

import functools
from collections.abc import Callable

import jax
from jax import lax
from jax.experimental.xla_metadata import set_xla_metadata

from tttlrm_jax.core.devices import target_device


def one_kernel(function: Callable) -> Callable:
    """`function(static, *arrays)` with a hashable `static`, compiled as said above on CPU.

    Its body may hold loops, elementwise operations, slices and updates of them; nothing that XLA
    compiles as a library call, such as sorts and matrix products. It must be called under `jit`.
    """

    @functools.partial(jax.jit, static_argnums=0)
    @functools.wraps(function)
    def compiled(static, *arrays):
        # XLA's compiler ends the process where a kernel does not read one of its inputs.
        read = [x[(0,) * x.ndim] for x in jax.tree.leaves(arrays)]
        return function(static, *arrays), read

    @functools.wraps(function)
    def call(static, *arrays):
        results = compiled(static, *arrays)
        if target_device().platform == "cpu":
            # Attributes of XLA's own pass for small loops; where they are unknown nothing changes.
            results = set_xla_metadata(results, xla_cpu_small_call="true", inlineable="false")
        return results[0]

    return call


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
