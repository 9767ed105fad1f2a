"""CUT3R's update (arXiv 2501.12387): the decoder's output is the new state."""

import jax.numpy as jnp

from tttlrm_jax.ttt.state_rules.base import StateRule, stateless
from tttlrm_jax.ttt.state_rules.table import register_state_rule


@register_state_rule
def cut3r() -> StateRule:
    """Full overwrite: rate 1 for every token."""
    return stateless(lambda _, tokens: jnp.ones(tokens.shape[:2], tokens.dtype))
