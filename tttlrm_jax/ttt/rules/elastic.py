"""Elastic wrapper: pulls weights that matter little to a moving anchor (tttLRM supplement).

With `D` the wrapped rule's step, per matrix:

    F <- a F + (1 - a) D^2          Fisher average, zero at first
    I  = 1 - F / (max F + 1e-8)     1 where a weight has hardly moved so far
    W <- W + D - strength * I * (W + D - A)
    A <- b A + (1 - b) W            after renormalisation, for persistent updates

`max` is taken over the whole array, scenes and heads included, as published: scenes of one
batch share it. `F`, `I` and the weights entering `A` are constants of differentiation; the
initial anchor is not.
"""

import flax.struct
import jax
import jax.numpy as jnp

from tttlrm_jax.config import Dtype
from tttlrm_jax.core.precision import round_to
from tttlrm_jax.parallel.mesh import maximum
from tttlrm_jax.ttt.fast_weights import FastWeights
from tttlrm_jax.ttt.rules.base import UpdateRule, require_option
from tttlrm_jax.ttt.rules.table import register_rule

FISHER_EPS = 1e-8


@flax.struct.dataclass
class ElasticState:
    anchor: FastWeights
    fisher: FastWeights
    inner: object  # rule state of the wrapped rule


@register_rule
def elastic(
    inner: UpdateRule,
    strength: float = 0.05,
    fisher_decay: float = 0.5,
    anchor_decay: float = 0.8,
    fisher_dtype: Dtype = "float32",
) -> UpdateRule:
    """Elastic pull to a moving anchor, weaker where a weight has moved (tttLRM supplement).

    `fisher_dtype` is the precision in which `(1 - a) D^2` is evaluated.
    """
    require_option("strength", strength, 0)
    require_option("fisher_decay", fisher_decay, 0, 1)
    require_option("anchor_decay", anchor_decay, 0, 1)

    def init(weights: FastWeights) -> ElasticState:
        fisher = jax.tree.map(jnp.zeros_like, weights)
        return ElasticState(anchor=weights, fisher=fisher, inner=inner.init(weights))

    def accumulate(fisher, step):
        step = jax.lax.stop_gradient(step)
        rounded_square = round_to(step * step, fisher_dtype)
        return fisher_decay * fisher + round_to((1 - fisher_decay) * rounded_square, fisher_dtype)

    def pull(step, fisher, weight, anchor):
        importance = 1 - fisher / (maximum(jnp.max(fisher), "batch") + FISHER_EPS)
        return step - strength * importance * (weight + step - anchor)

    def update(grad: FastWeights, state: ElasticState, weights: FastWeights):
        step, inner_state = inner.update(grad, state.inner, weights)
        fisher = jax.tree.map(accumulate, state.fisher, step)
        delta = jax.tree.map(pull, step, fisher, weights, state.anchor)
        return delta, state.replace(fisher=fisher, inner=inner_state)

    def commit(state: ElasticState, weights: FastWeights) -> ElasticState:
        def average(anchor, weight):
            return anchor_decay * anchor + (1 - anchor_decay) * jax.lax.stop_gradient(weight)

        anchor = jax.tree.map(average, state.anchor, weights)
        return state.replace(anchor=anchor, inner=inner.commit(state.inner, weights))

    return inner.wrapped(init, update)._replace(commit=commit)
