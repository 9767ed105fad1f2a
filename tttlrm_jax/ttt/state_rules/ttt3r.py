"""TTT3R's confidence gate (arXiv 2509.26645): a closed-form rate for each state token."""

import jax
import jax.numpy as jnp

from tttlrm_jax.ttt.state_rules.base import StateRule, stateless
from tttlrm_jax.ttt.state_rules.table import register_state_rule


@register_state_rule
def ttt3r() -> StateRule:
    """The gate: `rate = sigmoid(mean alignment with the frame)` of each token.

    The mean is over layers, heads and the frame's tokens, as in the published program; Eq. 7 of
    the paper writes a sum.
    """
    return stateless(lambda proposal, _: jax.nn.sigmoid(jnp.mean(proposal.alignment, axis=(1, 2))))
