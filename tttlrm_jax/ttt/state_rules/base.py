"""State rules: how far a frame moves each state token towards what the decoder proposes.

The vocabulary is that of the fast-weight rules (`ttt.rules`): a rule is `init(tokens) ->
rule_state` with `update(proposal, rule_state, tokens) -> (rate, rule_state)`. There the caller
adds a step to weights; here it moves tokens by a rate in [0, 1] along `candidate - tokens`:

    tokens <- rate * candidate + (1 - rate) * tokens        (arXiv 2509.26645, Eq. 8)
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.struct
from jaxtyping import Array, Float


@flax.struct.dataclass
class Proposal:
    """What one frame proposes for the state, and what it attended to.

    `alignment` is the mean over the frame's tokens (pose token and patches) of the cross-attention
    scores of each state token: before the softmax, scaled, after RoPE, per decoder layer and head.
    """

    candidate: Float[Array, "batch state d_model"]
    alignment: Float[Array, "batch layer head state"]


class StateRule(NamedTuple):
    """`update(proposal, rule_state, tokens) -> (rate [batch, state], rule_state)`.

    `init(tokens)` makes the first rule state: a pytree whose arrays carry the batch axis first and
    keep shapes and dtypes. What is outside of the rule is the recurrence's: first frames overwrite
    (rate 1), frames that do not update have rate 0 and leave the rule state as it was, a reset
    makes a new one.
    """

    init: Callable[[Float[Array, "batch state d_model"]], Any]
    update: Callable[[Proposal, Any, Float[Array, "batch state d_model"]], tuple[Array, Any]]


def stateless(rate: Callable[[Proposal, Array], Array]) -> StateRule:
    """The rule with `rate(proposal, tokens)`, whose state is empty."""

    def update(proposal, rule_state, tokens):
        return rate(proposal, tokens), rule_state

    return StateRule(lambda tokens: (), update)
