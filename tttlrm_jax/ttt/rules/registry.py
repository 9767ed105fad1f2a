"""The registry of update rules, and the way from a configuration to a rule.

A rule is a function with keyword options that returns an `UpdateRule`. Its signature is its
configuration: names, types and defaults are read from there. A parameter annotated `UpdateRule`
is another rule, which the function wraps.
"""

import dataclasses
import difflib
import inspect
import math
from collections.abc import Callable
from typing import Any, Literal, get_args, get_origin, get_type_hints

from tttlrm_jax.config import ModelConfig, RuleConfig
from tttlrm_jax.core.errors import ConfigError
from tttlrm_jax.ttt.rules.base import UpdateRule

PLAIN = {int: "a whole number", float: "a number", bool: "True or False", str: "a text"}


@dataclasses.dataclass(frozen=True)
class RuleOption:
    """One keyword of a rule; `kind` is a plain type, a Literal or `UpdateRule`."""

    kind: Any
    default: Any  # for a wrapped rule its name

    @property
    def follows_model(self) -> bool:
        """Left out, it takes `model.newton_schulz_dtype`."""
        return self.kind is not UpdateRule and "bfloat16" in get_args(self.kind)


@dataclasses.dataclass(frozen=True)
class RegisteredRule:
    build: Callable[..., UpdateRule]
    options: dict[str, RuleOption]

    @property
    def summary(self) -> str:
        """First line of the docstring."""
        return (inspect.getdoc(self.build) or "").split("\n")[0]


RULES: dict[str, RegisteredRule] = {}


def register_rule(build: Callable[..., UpdateRule] | None = None, *, inner: str = "muon") -> Any:
    """Decorator that lists a rule under its function's name.

    `inner` names the rule that a wrapper wraps by default. Raises ConfigError if the name is
    taken by another file, or an option has no default or a type no command line can express.
    """
    if build is None:
        return lambda function: register_rule(function, inner=inner)
    name = build.__name__
    earlier = RULES.get(name)
    if earlier is not None and _file(earlier.build) != _file(build):
        raise ConfigError(f"update rule {name} is registered already; choose another name")
    hints = get_type_hints(build)
    parameters = inspect.signature(build).parameters
    options = {key: read_option(name, key, hints, p, inner) for key, p in parameters.items()}
    RULES[name] = RegisteredRule(build, options)
    return build


def _file(build: Callable[..., UpdateRule]) -> str | None:
    return inspect.getsourcefile(build)


def read_option(rule: str, key: str, hints, parameter: inspect.Parameter, inner: str) -> RuleOption:
    kind = hints.get(key)
    if kind is UpdateRule:
        return RuleOption(kind, inner)
    if parameter.default is inspect.Parameter.empty:
        raise ConfigError(f"option {key} of update rule {rule} has no default; give one")
    if kind not in PLAIN and get_origin(kind) is not Literal:
        raise ConfigError(
            f"option {key} of update rule {rule} is annotated {kind}; use int, float, bool, str, "
            f"Literal or UpdateRule"
        )
    return RuleOption(kind, parameter.default)


def find_rule(name: str) -> RegisteredRule:
    """The rule of that name. Raises ConfigError with near names."""
    if name not in RULES:
        near = difflib.get_close_matches(name, RULES, 1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ConfigError(
            f"rule={name} is unknown; {hint}use one of {', '.join(sorted(RULES))}, or a file "
            f"NAME.py that registers one"
        )
    return RULES[name]


def complete_rule(rule: RuleConfig) -> RuleConfig:
    """Every option spelled out, so that a stored configuration outlives changed defaults.

    Only dtypes that follow `model.newton_schulz_dtype` stay out. Raises ConfigError for unknown
    names and values of the wrong type.
    """
    found = find_rule(rule.name)
    given = dict(rule.options)
    unknown = sorted(given.keys() - found.options.keys())
    if unknown:
        raise ConfigError(
            f"rule {rule.name} has no option {', '.join(unknown)}; "
            f"it has {', '.join(found.options) or 'none'}"
        )
    values = {}
    for key, option in found.options.items():
        if key not in given and option.follows_model:
            continue
        value = given.get(key, option.default)
        if option.kind is UpdateRule:
            values[key] = complete_rule(wrapped_rule(f"rule.{key}", value))
        else:
            values[key] = checked_option(f"rule.{key}", value, option.kind)
    return RuleConfig.of(rule.name, **values)


def wrapped_rule(field: str, value: Any) -> RuleConfig:
    """A rule to wrap, given as a configuration or by its name alone; ConfigError otherwise."""
    if isinstance(value, RuleConfig):
        return value
    if not isinstance(value, str):
        raise ConfigError(f"{field}={value!r} is no rule; give a RuleConfig or a rule's name")
    return RuleConfig(value)


def checked_option(field: str, value: Any, kind: Any) -> Any:
    """`value` if it is of that kind, numbers finite; ConfigError otherwise."""
    if get_origin(kind) is Literal:
        fits, wanted = value in get_args(kind), f"one of {get_args(kind)}"
    else:
        accepted = (int, float) if kind is float else (kind,)
        fits = isinstance(value, accepted) and (kind is bool or not isinstance(value, bool))
        wanted = PLAIN[kind]
    if not fits:
        raise ConfigError(f"{field}={value!r} is not {wanted}; give {wanted}")
    if kind is float and not math.isfinite(value):
        raise ConfigError(f"{field}={value} is not finite; give a finite number")
    return value


def build_rule(rule: RuleConfig, dtype: str = "bfloat16") -> UpdateRule:
    """The rule a configuration describes; `dtype` is that of Newton-Schulz where it names none."""
    found = find_rule(rule.name)
    arguments = dict(complete_rule(rule).options)
    for key, option in found.options.items():
        if option.kind is UpdateRule:
            arguments[key] = build_rule(arguments[key], dtype)
        elif option.follows_model:
            arguments.setdefault(key, dtype)
    return found.build(**arguments)


def configured_rule(config: ModelConfig) -> RuleConfig:
    """`config.rule`, or the published one: Muon, elastic where its strength is not 0."""
    if config.rule is not None:
        return config.rule
    muon = RuleConfig.of("muon", steps=config.muon_steps)
    if config.elastic_strength == 0:
        return muon
    return RuleConfig.of(
        "elastic",
        inner=muon,
        strength=config.elastic_strength,
        fisher_decay=config.elastic_fisher_decay,
        anchor_decay=config.elastic_anchor_decay,
    )


def rule_from_config(config: ModelConfig) -> UpdateRule:
    """The update rule of a model."""
    return build_rule(configured_rule(config), config.newton_schulz_dtype)


def override_rule(config: ModelConfig, rule: RuleConfig | None) -> ModelConfig:
    """The model with another rule; None keeps its own.

    Options that `rule` leaves out come from the model where it was trained with that same rule,
    else from the rule's defaults.
    """
    if rule is None:
        return config
    current = configured_rule(config)
    if current.name == rule.name:
        rule = RuleConfig.of(rule.name, **{**dict(current.options), **dict(rule.options)})
    changed = dataclasses.replace(config, rule=complete_rule(rule), elastic_strength=0.0)
    rule_from_config(changed)  # values out of range fail here
    return changed
