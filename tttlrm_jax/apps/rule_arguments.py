"""`--rule NAME --rule.option value` on the command lines of train.py and eval.py.

The options depend on the rule, so they are read apart from the other arguments. NAME may be a
Python file that registers a rule. Wrapped rules nest: `--rule elastic --rule.inner momentum
--rule.inner.decay 0.8`.
"""

import dataclasses
from typing import Any, Literal, TypeVar, get_args, get_origin

from tttlrm_jax.config import ModelConfig, RuleConfig
from tttlrm_jax.config.command_line import parse_arguments
from tttlrm_jax.config.rule_file import register_from_file
from tttlrm_jax.core.errors import ConfigError
from tttlrm_jax.ttt.rules import (
    RULES,
    RuleOption,
    UpdateRule,
    checked_option,
    complete_rule,
    configured_rule,
    find_rule,
    override_rule,
    wrapped_rule,
)

_Config = TypeVar("_Config")
BOOLEANS = {"true": True, "false": False}


def parse_with_rule(
    kind: type[_Config], arguments: list[str], prog: str, default: _Config | None = None
) -> _Config:
    """`parse_arguments` of a configuration that has a `rule`, or a `model` with one.

    A run's rule comes out complete. Raises ConfigError in one sentence for unknown rules,
    options and values; `--help` lists them all.
    """
    others, given = split_rule_arguments(arguments, prog)
    if any(argument in ("-h", "--help") for argument in others):
        if "" in given:
            _rule_name(given[""])  # a file's rule is to be listed too
        try:
            return parse_arguments(kind, others, prog, default)
        finally:
            print(rules_help())
    config: Any = parse_arguments(kind, others, prog, default)
    model = getattr(config, "model", None)
    if not isinstance(model, ModelConfig):
        rule = _read_rule(given, None, prog) if given else config.rule
        return dataclasses.replace(config, rule=rule)
    if given:
        model = override_rule(model, _read_rule(given, configured_rule(model), prog))
    elif model.rule is not None:
        model = dataclasses.replace(model, rule=complete_rule(model.rule))
    return dataclasses.replace(config, model=model)


def rules_help() -> str:
    """All registered rules with their options, types and defaults."""
    lines = ["update rules: --rule NAME, or a file NAME.py that registers one"]
    for name, rule in sorted(RULES.items()):
        lines.append(f"  {name:<14} {rule.summary}")
        lines += [
            f"    --rule.{key.replace('_', '-')} {_type_name(option)} (default: {_default(option)})"
            for key, option in rule.options.items()
        ]
    return "\n".join(lines)


def _type_name(option: RuleOption) -> str:
    if option.kind is UpdateRule:
        return "RULE"
    if get_origin(option.kind) is Literal:
        return "{" + ",".join(map(str, get_args(option.kind))) + "}"
    return option.kind.__name__.upper()


def _default(option: RuleOption) -> str:
    return "model.newton_schulz_dtype" if option.follows_model else str(option.default)


def split_rule_arguments(arguments: list[str], prog: str) -> tuple[list[str], dict[str, str]]:
    """Other arguments, and the rule's by dotted name ("" is the rule itself)."""
    others, given = [], {}
    rest = iter(arguments)
    for argument in rest:
        key, equals, value = argument.partition("=")
        key = (
            key.removeprefix("--model.rule")
            if key.startswith("--model.rule")
            else (key.removeprefix("--rule") if key.startswith("--rule") else None)
        )
        if key is None or (key and not key.startswith(".")):
            others.append(argument)
            continue
        if not equals:
            value = next(rest, None)
            if value is None or value.startswith("--"):
                raise ConfigError(f"{argument} has no value; see {prog} --help")
        given[key.removeprefix(".").replace("-", "_")] = value
    return others, given


def _read_rule(
    given: dict[str, str], current: RuleConfig | None, prog: str, argument: str = "--rule"
) -> RuleConfig:
    """The rule of dotted arguments; without a name they change options of the current one.

    `argument` is what they are called on the command line.
    """
    if "" in given:
        base = RuleConfig(_rule_name(given[""]))
    elif current is not None:
        base = current
    else:
        raise ConfigError(f"--rule.{next(iter(given))} is given without --rule NAME; name the rule")
    options, values = find_rule(base.name).options, dict(base.options)
    nested: dict[str, dict[str, str]] = {}
    for dotted, text in given.items():
        key, _, below = dotted.partition(".")
        if not key:
            continue
        if key not in options:
            raise ConfigError(
                f"rule {base.name} has no option {key}; it has {', '.join(options) or 'none'}; "
                f"see {prog} --help"
            )
        if options[key].kind is UpdateRule:
            nested.setdefault(key, {})[below] = text
        else:
            values[key] = convert_option(f"{argument}.{dotted}", text, options[key].kind)
    for key, below in nested.items():
        default = wrapped_rule(f"{argument}.{key}", values.get(key, options[key].default))
        values[key] = _read_rule(below, default, prog, f"{argument}.{key}")
    return RuleConfig.of(base.name, **values)


def convert_option(argument: str, text: str, kind: Any) -> Any:
    if get_origin(kind) is Literal:
        for choice in get_args(kind):
            if str(choice) == text:
                return choice
        raise ConfigError(f"{argument}={text} is unknown; use one of {get_args(kind)}")
    if kind is bool:
        if text.lower() not in BOOLEANS:
            raise ConfigError(f"{argument}={text} is not True or False; give one of them")
        return BOOLEANS[text.lower()]
    try:
        value = kind(text)
    except ValueError:
        wanted = "a whole number" if kind is int else "a number"
        raise ConfigError(f"{argument}={text} is not {wanted}; give one") from None
    return checked_option(argument, value, kind)


def _rule_name(name: str) -> str:
    """The name itself, or that of the rule which the file of that name registers."""
    if name.endswith(".py"):
        return register_from_file(name, RULES)
    find_rule(name)
    return name
