"""Update rules: how a gradient of the inner objective changes the fast weights.

A rule is a triple of pure functions in the manner of optax. It sees all matrices of a layer at
once and owns `rule_state`, a pytree it alone understands.
"""

from tttlrm_jax.config import ModelConfig
from tttlrm_jax.ttt.rules.base import UpdateRule
from tttlrm_jax.ttt.rules.elastic import elastic
from tttlrm_jax.ttt.rules.muon import muon

RULES = {"muon": muon, "elastic": elastic}


def rule_from_config(config: ModelConfig) -> UpdateRule:
    """The published rule: Muon, under the elastic wrapper where its strength is not 0."""
    rule = muon(steps=config.muon_steps, dtype=config.newton_schulz_dtype)
    if config.elastic_strength == 0:
        return rule
    return elastic(
        rule,
        strength=config.elastic_strength,
        fisher_decay=config.elastic_fisher_decay,
        anchor_decay=config.elastic_anchor_decay,
        fisher_dtype=config.newton_schulz_dtype,
    )


__all__ = ["RULES", "UpdateRule", "elastic", "muon", "rule_from_config"]
