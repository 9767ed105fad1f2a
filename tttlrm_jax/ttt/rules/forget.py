"""A forget gate, or constant decay, around any rule (arXiv 2412.06464, 2501.00663)."""

from typing import Any, Literal

import flax.struct
import jax
import jax.numpy as jnp

from tttlrm_jax.ttt.fast_weights import FastWeights
from tttlrm_jax.ttt.rules.base import Gate, UpdateRule, require_option
from tttlrm_jax.ttt.rules.table import register_rule


@flax.struct.dataclass
class ForgetState:
    retention: Any  # gamma of this chunk, [batch, head, 1, 1]; () where it is a constant
    origin: Any  # the initial weights; () where weights decay to zero
    inner: Any  # rule state of the wrapped rule


@register_rule
def forget(
    inner: UpdateRule,
    retention: float = 0.95,
    gate: Literal["constant", "head", "token"] = "constant",
    toward: Literal["initial", "zero"] = "initial",
) -> UpdateRule:
    """Forget gate: `W <- O + gamma (W - O) + D`, with `D` the inner rule's step.

    `O` is the initial weights or zero. Toward zero the columns' renormalisation undoes the decay
    of their length, so that `gamma < 1` only makes new steps weigh `1 / gamma` more.
    `gamma` is the constant `retention`, or starts there and is learned: one per layer and head
    (`head`), or from the chunk's mean token as well (`token`). Learned gates add parameters to
    every TTT layer.
    """
    require_option("retention", retention, 0.001, 0.999 if gate != "constant" else 1)
    learned = gate != "constant"
    gates = (Gate(retention, from_tokens=gate == "token"),) if learned else ()

    def init(weights: FastWeights) -> ForgetState:
        gamma = jnp.ones((*weights.gate.shape[:-2], 1, 1), weights.gate.dtype) if learned else ()
        origin = weights if toward == "initial" else ()
        return ForgetState(gamma, origin, inner.init(weights))

    def observe(state: ForgetState, values) -> ForgetState:
        gamma = values[0][..., None, None] if learned else ()
        return state.replace(
            retention=gamma, inner=inner.observe(state.inner, values[len(gates) :])
        )

    def update(grad: FastWeights, state: ForgetState, weights: FastWeights):
        step, inner_state = inner.update(grad, state.inner, weights)
        gamma = state.retention if learned else retention
        kept = weights
        if toward == "initial":
            kept = jax.tree.map(jnp.subtract, weights, state.origin)
        step = jax.tree.map(lambda d, w: d - (1 - gamma) * w, step, kept)
        return step, state.replace(inner=inner_state)

    wrapper = inner.wrapped(init, update)
    return wrapper._replace(gates=gates + inner.gates, observe=observe)
