"""Which rules the laboratory compares, and how one is built with a traced rate."""

from typing import Any

from tttlrm_jax.config import RuleConfig
from tttlrm_jax.ttt.rules import RULES, UpdateRule

COMPOSITIONS = {
    "momentum(muon)": RuleConfig.of("momentum", inner=RuleConfig("muon")),
    "delta(muon)": RuleConfig.of("delta", inner=RuleConfig("muon")),
    "forget(delta)": RuleConfig.of("forget", inner=RuleConfig("delta")),
    "elastic(delta)": RuleConfig.of("elastic", inner=RuleConfig("delta")),
}


def compared_rules() -> dict[str, RuleConfig]:
    """Every registered rule with its defaults, and compositions of them."""
    plain = {name: RULES.complete(RuleConfig(name)) for name in sorted(RULES)}
    return {**plain, **{name: RULES.complete(rule) for name, rule in COMPOSITIONS.items()}}


def build_with_rate(rule: RuleConfig, rate: Any) -> UpdateRule:
    """The rule in float32, its innermost rule's `rate` set to a number or a traced array."""
    options = RULES.find(rule.name).options
    arguments = dict(rule.options)
    for name, option in options.items():
        if option.is_rule:
            arguments[name] = build_with_rate(arguments[name], rate)
        elif option.follows_model:
            arguments[name] = "float32"
        elif name == "rate":
            arguments[name] = rate
    return RULES.find(rule.name).build(**arguments)


def has_rate(rule: RuleConfig) -> bool:
    """Whether `build_with_rate` has something to set."""
    inner = [value for _, value in rule.options if isinstance(value, RuleConfig)]
    return "rate" in RULES.find(rule.name).options or any(map(has_rate, inner))
