"""An exponential moving average of what the decoder proposes."""

import jax.numpy as jnp

from tttlrm_jax.ttt.rules.base import require_option
from tttlrm_jax.ttt.state_rules.base import StateRule, stateless
from tttlrm_jax.ttt.state_rules.table import register_state_rule


@register_state_rule
def ema(rate: float = 0.5) -> StateRule:
    """Constant rate: `tokens <- rate * candidate + (1 - rate) * tokens`."""
    require_option("rate", rate, 0, 1)
    return stateless(lambda _, tokens: jnp.full(tokens.shape[:2], rate, tokens.dtype))
