"""How loops start under `shard_map`."""

from typing import Any

import jax
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


def _axes(leaf) -> frozenset:
    return jax.typeof(leaf).manual_axis_type.varying
