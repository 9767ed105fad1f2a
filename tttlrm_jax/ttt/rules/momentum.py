"""Heavy-ball momentum before another rule (Polyak 1964; in fast weights: arXiv 2501.00663)."""

import flax.struct
import jax
import jax.numpy as jnp

from tttlrm_jax.ttt.fast_weights import FastWeights
from tttlrm_jax.ttt.rules.base import UpdateRule, require_option
from tttlrm_jax.ttt.rules.table import register_rule


@flax.struct.dataclass
class MomentumState:
    velocity: FastWeights
    inner: object  # rule state of the wrapped rule


@register_rule(inner="sgd")
def momentum(inner: UpdateRule, decay: float = 0.9) -> UpdateRule:
    """Momentum over chunks: `V <- decay V + grad`, and `V` goes to the inner rule.

    Around `sgd` it is the heavy ball, around `muon` the optimizer Muon as published for training.
    """
    require_option("decay", decay, 0, 1)

    def init(weights: FastWeights) -> MomentumState:
        return MomentumState(jax.tree.map(jnp.zeros_like, weights), inner.init(weights))

    def update(grad: FastWeights, state: MomentumState, weights: FastWeights):
        velocity = jax.tree.map(lambda v, g: decay * v + g, state.velocity, grad)
        delta, inner_state = inner.update(velocity, state.inner, weights)
        return delta, MomentumState(velocity, inner_state)

    return inner.wrapped(init, update)
