"""Equal layers stacked on a leading axis and scanned: compile time does not grow with depth."""

from collections.abc import Callable
from typing import TypeVar

import jax
from flax import nnx

from tttlrm_jax.config import Remat
from tttlrm_jax.core.precision import NARROW_PRODUCT
from tttlrm_jax.models.nn.layers import LINEAR_OUTPUT

_Module = TypeVar("_Module", bound=nnx.Module)


def rematerialised(body: Callable, policy: str) -> Callable:
    """Wraps one layer in `jax.checkpoint` by a named policy.

    `none` stores every intermediate, `dots` the results of matrix products without batch axes
    (linear layers; with one scene and one head the fast weights' too), `linear` those of linear
    layers alone, `block` only the block's input.
    """
    if policy == "none":
        return body
    policies = jax.checkpoint_policies
    named = policies.save_only_these_names(NARROW_PRODUCT)
    saved = {
        "block": policies.nothing_saveable,
        "dots": policies.save_from_both_policies(policies.dots_with_no_batch_dims_saveable, named),
        "linear": policies.save_only_these_names(LINEAR_OUTPUT),
    }[policy]
    return jax.checkpoint(body, policy=saved, prevent_cse=False)


def stack_modules(make: Callable[[nnx.Rngs], _Module], count: int, rngs: nnx.Rngs) -> _Module:
    """`count` modules as one, with a leading layer axis on every parameter."""
    stacked = nnx.vmap(make, in_axes=(0,), out_axes=0)
    return nnx.split_rngs(splits=count)(stacked)(rngs)


def scan_modules(stacked: nnx.Module | tuple[nnx.Module, ...], body: Callable, carry, remat: Remat):
    """`carry, y = body(module, carry)` through the layers; several stacks go side by side."""
    graph, params = nnx.split(stacked)

    def one_layer(carry, layer_params):
        return body(nnx.merge(graph, layer_params), carry)

    return jax.lax.scan(rematerialised(one_layer, remat), carry, params)


def apply_modules(stacked: nnx.Module, x, *arguments, remat: Remat):
    """`x = module(x, *arguments)` through the layers."""
    return scan_modules(stacked, lambda module, x: (module(x, *arguments), ()), x, remat)[0]
