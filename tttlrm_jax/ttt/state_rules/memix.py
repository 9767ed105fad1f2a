"""MeMix (arXiv 2603.15330): only the least aligned patches of the state are written."""

from typing import Literal

import jax.numpy as jnp

from tttlrm_jax.ttt.rules.base import require_option
from tttlrm_jax.ttt.state_rules.base import (
    StateRule,
    Step,
    frame_tokens_of,
    mean_alignment,
    written,
)
from tttlrm_jax.ttt.state_rules.table import register_state_rule


@register_state_rule(inner="cut3r")
def memix(
    inner: StateRule,
    share: float = 0.5,
    patch: int = 1,
    score: Literal["tokens", "alignment"] = "tokens",
) -> StateRule:
    """MeMix: `inner` writes the `share` of patches least aligned with the frame; others stay.

    From the abstract and overview: the state is parted into patches, a frame's dot products of
    candidate state and image tokens are their scores, and the bottom k write (a binary mask) while
    the others keep their values exactly. How many tokens a patch has and how many patches write
    was not at hand: `patch` consecutive tokens (the last one may have fewer), and
    `k = round(share * patches)`, at least 1. The score of a patch is its tokens' mean, over the
    frame's tokens as well. `score="alignment"` takes the attention's scores instead.

    Cost: one product of each state token with the frame's mean token, and a sort. Needs the
    frame's tokens, unless by alignment.
    """
    require_option("share", share, 0, 1)
    require_option("patch", patch, 1)

    def update(proposal, rule_state, tokens):
        write, rule_state = inner.update(proposal, rule_state, tokens)
        aligned = mean_alignment(proposal) if score == "alignment" else _dots(proposal)
        chosen = least(aligned, share, patch)[..., None]
        return Step(jnp.where(chosen, written(write, proposal, tokens), tokens)), rule_state

    return StateRule(inner.init, update)


def _dots(proposal):
    frame = jnp.mean(frame_tokens_of("memix", proposal), axis=1)
    return jnp.einsum("bsd,bd->bs", proposal.candidate, frame)


def least(aligned, share: float, patch: int):
    """Bool [batch, state]: tokens of the patches with the smallest mean of `aligned`."""
    number = jnp.arange(aligned.shape[1]) // patch
    count = -(-aligned.shape[1] // patch)
    member = (number[:, None] == jnp.arange(count)[None]).astype(aligned.dtype)
    means = (aligned @ member) / jnp.sum(member, axis=0, keepdims=True)
    rank = jnp.argsort(jnp.argsort(means, axis=1), axis=1)
    return (rank < max(1, round(share * count)))[:, number]
