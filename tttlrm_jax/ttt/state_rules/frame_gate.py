"""One gate for each frame on top of another rule (arXiv 2605.16981)."""

from typing import Literal

import jax.numpy as jnp

from tttlrm_jax.core.precision import safe_norm
from tttlrm_jax.ttt.rules.base import require_option
from tttlrm_jax.ttt.state_rules.base import StateRule, Step, frame_tokens_of, written
from tttlrm_jax.ttt.state_rules.table import register_state_rule

SMALL = 1e-6


@register_state_rule(inner="ttt3r")
def frame_gate(
    inner: StateRule,
    strength: float = 1.0,
    decay: float = 0.9,
    against: Literal["previous", "written"] = "previous",
) -> StateRule:
    """Frame gate: the step of `inner` times one `alpha` in (0, 1] for all tokens.

    The paper's abstract: `alpha` has a closed form in frame-to-frame changes of internal features,
    and relaxes the choice of key frames. Its formula was not at hand; this is our reading. The
    feature `f` is the mean image token after the decoder, its change
    `c = |f - f_before| / |f_before|`, and

        alpha = 1 - exp(-strength * c / m),

    `m` being the running mean of changes with weight `decay` on the past, so that an ordinary
    frame has `alpha = 0.63` and a camera at rest writes nothing. `against="written"` compares with
    a feature that follows by `alpha`, as a key frame does, so that slow motion adds up.

    Cost: one feature and one number a scene beside `inner`. Needs the frame's tokens.
    """
    require_option("strength", strength, 0)
    require_option("decay", decay, 0, 1)

    def init(tokens):
        batch, _, width = tokens.shape
        zeros = jnp.zeros((batch,), tokens.dtype)
        return inner.init(tokens), jnp.zeros((batch, width), tokens.dtype), zeros, zeros

    def update(proposal, rule_state, tokens):
        inner_state, before, usual, seen = rule_state
        write, inner_state = inner.update(proposal, inner_state, tokens)
        feature = jnp.mean(frame_tokens_of("frame_gate", proposal), axis=1).astype(tokens.dtype)
        size = jnp.maximum(_norm(before), SMALL)
        change = jnp.where(seen > 0, _norm(feature - before) / size, 0)
        usual = jnp.where(seen > 1, decay * usual + (1 - decay) * change, change)
        alpha = 1 - jnp.exp(-strength * change / jnp.maximum(usual, SMALL))
        alpha = jnp.where(seen > 0, alpha, 1)
        follows = jnp.where(against == "written", alpha, 1)[:, None]
        reference = before + follows * (feature - before)
        moved = alpha[:, None, None] * (written(write, proposal, tokens) - tokens)
        state = (inner_state, reference, usual, jnp.minimum(seen + 1, 2))
        return Step(tokens + moved), state

    return StateRule(init, update)


def _norm(vectors):
    return safe_norm(vectors, axis=-1)[..., 0]
