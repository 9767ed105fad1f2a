"""The delta rule on state tokens (arXiv 2509.26645, Eq. 5; Widrow and Hoff 1960)."""

import jax
import jax.numpy as jnp

from tttlrm_jax.ttt.rules.base import require_option
from tttlrm_jax.ttt.state_rules.base import StateRule, Step, stateless
from tttlrm_jax.ttt.state_rules.table import register_state_rule


@register_state_rule
def delta(rate: float = 1.0) -> StateRule:
    """Delta rule: `S + rate/A sum_a k_a (v_a - k_a S)`, keys `k` of unit length over the tokens.

    The state `S` [state, d_model] is the memory that Eq. 5 corrects by the error of its answer. The
    paper's keys and values are those inside of the decoder, which have no place in `S`; what is
    written here instead is a choice of this package: one address for each of the `A` pairs of
    layer and head, `k_a = a / |a|` of the softmax `a` of the alignment over the state tokens, and
    as value what the candidate answers at it, `v_a = k_a candidate`. Steps mix tokens, so they are
    no rates. `rate` is in [0, 2], beyond which the memory of a single address diverges.

    Cost: two products of [A, state] with [state, d_model] a frame; no state of its own.
    """
    require_option("rate", rate, 0, 2)

    def step(proposal, tokens):
        batch, _, _, state = proposal.alignment.shape
        address = jax.nn.softmax(proposal.alignment, axis=-1).reshape(batch, -1, state)
        key = address / jnp.sqrt(jnp.sum(address**2, axis=-1, keepdims=True))
        error = jnp.einsum("bas,bsd->bad", key, proposal.candidate - tokens)
        change = jnp.einsum("bas,bad->bsd", key, error) / key.shape[1]
        return Step(tokens + rate * change)

    return stateless(step)
