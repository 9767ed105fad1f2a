"""How loops start: on which devices the first carry differs, and when its memory is taken."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax


def varying_as(like: Any, tree: Any) -> Any:
    """`tree`, its leaves varying over every manual mesh axis that a leaf of `like` varies over.

    A loop's first carry has to, where the body mixes it with such values. Outside of `shard_map`
    this is `tree`.
    """
    axes = frozenset().union(*(_axes(leaf) for leaf in jax.tree.leaves(like)))

    def cast(leaf):
        missing = tuple(sorted(axes - _axes(leaf)))
        return lax.pcast(leaf, missing, to="varying") if missing else leaf

    return jax.tree.map(cast, tree)


def full_after(like: Any, shape: tuple[int, ...], value: Any, dtype: Any) -> jax.Array:
    """`jnp.full(shape, value, dtype)`, varying as `like`, made once the first leaf of `like` is.

    Nothing else makes a constant wait: XLA may fill the first carry of a late loop at the start of
    the program, where it takes memory all the while. It would see through an optimization barrier
    before it orders operations, but not through the comparisons.
    """
    first = lax.stop_gradient(jax.tree.leaves(like)[0])
    one = first[(0,) * first.ndim]
    never = (one < 0) & (one > 0)
    value = jnp.asarray(value, dtype)
    return varying_as(like, jnp.full(shape, jnp.where(never, value + 1, value)))


def _axes(leaf) -> frozenset:
    return jax.typeof(leaf).manual_axis_type.varying
