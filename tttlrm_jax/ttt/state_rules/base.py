"""State rules: what a frame writes into the state tokens.

The vocabulary is that of the fast-weight rules (`ttt.rules`): a rule is `init(tokens) ->
rule_state` with `update(proposal, rule_state, tokens) -> (write, rule_state)`. There the caller
adds a step to weights; here a write is either a rate for each token, in [0, 1], along
`candidate - tokens`,

    tokens <- rate * candidate + (1 - rate) * tokens        (arXiv 2509.26645, Eq. 8)

or a `Step`: the new tokens themselves, for rules whose step has another direction.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.struct
import jax.numpy as jnp
from jaxtyping import Array, Float

from tttlrm_jax.core.errors import InputError


@flax.struct.dataclass
class Proposal:
    """What one frame proposes for the state, and what it attended to.

    `alignment` is the mean over the frame's tokens (pose token and patches) of the cross-attention
    scores of each state token: before the softmax, scaled, after RoPE, per decoder layer and head.
    What is None was not made by whoever calls the rule; rules that need it ask through `needed`.
    """

    candidate: Float[Array, "batch state d_model"]
    alignment: Float[Array, "batch layer head state"]
    # the frame's patches after the decoder, normalised
    image_tokens: Float[Array, "batch token d_model"] | None = None
    # of the rates that a network has learned (`model.state_rate`)
    rate_logits: Float[Array, "batch state"] | None = None


@flax.struct.dataclass
class Step:
    """A write that says the new tokens."""

    tokens: Float[Array, "batch state d_model"]


Write = Step | Float[Array, "batch state"]


class StateRule(NamedTuple):
    """`update(proposal, rule_state, tokens) -> (write, rule_state)`.

    The write is a rate [batch, state] or a `Step`. `init(tokens)` makes the first rule state: a
    pytree whose arrays carry the batch axis first and keep shapes and dtypes. What is outside of
    the rule is the recurrence's: first frames overwrite (rate 1), frames that do not update have
    rate 0 and leave the rule state as it was, a reset makes a new one.
    """

    init: Callable[[Float[Array, "batch state d_model"]], Any]
    update: Callable[[Proposal, Any, Float[Array, "batch state d_model"]], tuple[Write, Any]]


def stateless(write: Callable[[Proposal, Array], Write]) -> StateRule:
    """The rule with `write(proposal, tokens)`, whose state is empty."""

    def update(proposal, rule_state, tokens):
        return write(proposal, tokens), rule_state

    return StateRule(lambda tokens: (), update)


def written(write: Write, proposal: Proposal, tokens: Array) -> Array:
    """The tokens after a write."""
    if isinstance(write, Step):
        return write.tokens
    return write[..., None] * proposal.candidate + (1 - write[..., None]) * tokens


def rate_of(write: Write, proposal: Proposal, tokens: Array) -> Float[Array, "batch state"]:
    """The rate of a write; of a step its share of the way to the candidate.

    That is the component of the step along `candidate - tokens`, over the length of that. It is 0
    where the candidate is the token itself.
    """
    if not isinstance(write, Step):
        return write
    way = proposal.candidate - tokens
    length = jnp.sum(way**2, axis=-1)
    along = jnp.sum((write.tokens - tokens) * way, axis=-1)
    return jnp.where(length > 0, along / jnp.where(length > 0, length, 1), 0)


def mean_alignment(proposal: Proposal) -> Float[Array, "batch state"]:
    """Over layers and heads."""
    return jnp.mean(proposal.alignment, axis=(1, 2))


def needed(rule: str, proposal: Proposal, name: str, remedy: str) -> Array:
    """An optional part of the proposal. Raises InputError where there is none."""
    value = getattr(proposal, name)
    if value is None:
        raise InputError.of("rule", rule, f"needs {name}, which the network does not give", remedy)
    return value


def frame_tokens_of(rule: str, proposal: Proposal) -> Float[Array, "batch token d_model"]:
    """The frame's tokens. Raises InputError for a proposal without them."""
    remedy = "give Proposal(image_tokens=...), or use ttt3r"
    return needed(rule, proposal, "image_tokens", remedy)
