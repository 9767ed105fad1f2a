"""The table of update rules, and the rule of a model."""

import dataclasses

from tttlrm_jax.config import ModelConfig, RuleConfig
from tttlrm_jax.ttt.registry import Registry
from tttlrm_jax.ttt.rules.base import UpdateRule

RULES = Registry("update rule", wrapped=UpdateRule)
register_rule = RULES.register
build_rule = RULES.build


def rule_from_config(config: ModelConfig) -> UpdateRule:
    """The update rule of a model."""
    return build_rule(config.rule, config.newton_schulz_dtype)


def override_rule(config: ModelConfig, rule: RuleConfig | None) -> ModelConfig:
    """The model with another rule; None keeps its own.

    Options that `rule` leaves out come from the model where it was trained with that same rule,
    else from the rule's defaults.
    """
    if rule is None:
        return config
    if config.rule.name == rule.name:
        rule = RuleConfig.of(rule.name, **{**dict(config.rule.options), **dict(rule.options)})
    changed = dataclasses.replace(config, rule=RULES.complete(rule))
    rule_from_config(changed)  # values out of range fail here
    return changed
