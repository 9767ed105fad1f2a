"""TTT3R's confidence gate (arXiv 2509.26645): a closed-form rate for each state token."""

from typing import Literal

import jax

from tttlrm_jax.ttt.state_rules.base import (
    StateRule,
    frame_tokens_of,
    mean_alignment,
    stateless,
)
from tttlrm_jax.ttt.state_rules.table import register_state_rule


@register_state_rule
def ttt3r(pool: Literal["mean", "sum"] = "mean") -> StateRule:
    """The gate: `rate = sigmoid(pooled alignment with the frame)` of each token.

    The mean is over layers, heads and the frame's tokens, as in the published program. `pool="sum"`
    is the plain sum of Eq. 7 over the frame's tokens (pose token and patches); over layers and
    heads, which the equation does not name, it stays a mean. The sum grows with the picture, and
    nearly all rates are then 0 or 1.
    """

    def rate(proposal, tokens):
        score = mean_alignment(proposal)
        if pool == "sum":
            score = score * (1 + frame_tokens_of("ttt3r", proposal).shape[1])
        return jax.nn.sigmoid(score)

    return stateless(rate)
