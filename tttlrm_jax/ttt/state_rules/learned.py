"""Learned rates (arXiv 2509.26645, section 3.2): parameters of the network say them."""

import jax

from tttlrm_jax.ttt.state_rules.base import StateRule, needed, stateless
from tttlrm_jax.ttt.state_rules.table import register_state_rule

REMEDY = (
    "train one with model.state_rate=scalar or input and train.state_rule=learned, or use ttt3r"
)


@register_state_rule
def learned() -> StateRule:
    """Learned rate: `sigmoid(logit)`, one for all or by input, as `model.state_rate` says.

    `scalar`: one learned number. `input`: an affine function of each candidate token and of the
    frame's mean token. The paper names both kinds and no form of the second. Both start at 0.5.

    Cost: nothing, or one product with the width for each token. Needs a network with the
    parameters; published weights have none.
    """
    return stateless(
        lambda proposal, _: jax.nn.sigmoid(needed("learned", proposal, "rate_logits", REMEDY))
    )
