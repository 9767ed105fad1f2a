"""Fast weights: the network, its closed-form gradient, update rules and operation plans."""

from tttlrm_jax.ttt.fast_weights import FastWeights, TokenRates, apply_fast_mlp, ascent_direction
from tttlrm_jax.ttt.newton_schulz import newton_schulz
from tttlrm_jax.ttt.operations import (
    LayerState,
    Operation,
    full_plan,
    initial_state,
    run_operations,
    sequential_plan,
    update_state,
)
from tttlrm_jax.ttt.rules import RULES, UpdateRule, build_rule, register_rule, rule_from_config

__all__ = [
    "RULES", "FastWeights", "LayerState", "Operation", "TokenRates", "UpdateRule",
    "apply_fast_mlp", "ascent_direction", "build_rule", "full_plan", "initial_state",
    "newton_schulz", "register_rule", "rule_from_config", "run_operations", "sequential_plan",
    "update_state",
]  # fmt: skip
