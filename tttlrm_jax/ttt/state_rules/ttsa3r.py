"""TTSA3R (arXiv 2601.22615): rates from how tokens evolve and from what the frame shows."""

from typing import Literal

import jax
import jax.numpy as jnp

from tttlrm_jax.core.precision import safe_norm
from tttlrm_jax.ttt.rules.base import require_option
from tttlrm_jax.ttt.state_rules.base import StateRule, mean_alignment
from tttlrm_jax.ttt.state_rules.table import register_state_rule

SMALL = 1e-6


@register_state_rule
def ttsa3r(
    fuse: Literal["product", "mean", "min"] = "product",
    temporal: Literal["active", "steady"] = "active",
    sharpness: float = 1.0,
    dynamics: float = 1.0,
    decay: float = 0.9,
) -> StateRule:
    """TTSA3R: a temporal and a spatial rate of each token, fused.

    The paper's abstract names two signals: how the state evolves over time, which regulates how
    much is written, and observation-state alignment together with the dynamics of the scene,
    which say where. Its formulas were not at hand; this is our reading. With the
    change `e = |candidate - token| / |token|`, its running mean `m` over frames (weight `decay` on
    the past), the alignment `a` and its change `c = |a - a_before|`:

        temporal = sigmoid(+-sharpness * (e / m - 1))
        spatial = sigmoid(a + dynamics * (c / mean of c over tokens - 1))

    `temporal="active"` (+) writes more where a token changes more than it used to, `"steady"` (-)
    less. `dynamics=0` leaves the gate of TTT3R as the spatial rate.

    Cost: two numbers a state token.
    """
    require_option("sharpness", sharpness, 0)
    require_option("dynamics", dynamics, 0)
    require_option("decay", decay, 0, 1)
    sign = 1 if temporal == "active" else -1
    fused = {
        "product": lambda a, b: a * b,
        "mean": lambda a, b: (a + b) / 2,
        "min": jnp.minimum,
    }[fuse]

    def init(tokens):
        zeros = jnp.zeros(tokens.shape[:2], tokens.dtype)
        return zeros, zeros, jnp.zeros(tokens.shape[:1], bool)

    def update(proposal, rule_state, tokens):
        usual, before, seen = rule_state
        seen = seen[:, None]
        size = jnp.maximum(_norm(tokens), SMALL)
        change = _norm(proposal.candidate - tokens) / size
        usual = jnp.where(seen, decay * usual + (1 - decay) * change, change)
        over_time = jax.nn.sigmoid(sign * sharpness * (change / jnp.maximum(usual, SMALL) - 1))
        aligned = mean_alignment(proposal).astype(tokens.dtype)
        turned = jnp.where(seen, jnp.abs(aligned - before), 0)
        mean = jnp.maximum(jnp.mean(turned, axis=1, keepdims=True), SMALL)
        moving = jnp.where(seen, turned / mean - 1, 0)
        over_space = jax.nn.sigmoid(aligned + dynamics * moving)
        return fused(over_time, over_space), (usual, aligned, jnp.ones_like(seen[:, 0]))

    return StateRule(init, update)


def _norm(vectors):
    return safe_norm(vectors, axis=-1)[..., 0]
