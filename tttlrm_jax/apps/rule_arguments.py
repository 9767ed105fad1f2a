"""`--rule NAME --rule.option value` on the command lines of train.py and eval.py.

The options depend on the rule, so they are read apart from the other arguments. NAME may be a
Python file that registers a rule. Wrapped rules nest: `--rule elastic --rule.inner momentum
--rule.inner.decay 0.8`.
"""

import dataclasses
from typing import Any, TypeVar

from tttlrm_jax.config import ModelConfig, RuleConfig
from tttlrm_jax.config.command_line import parse_arguments, read_value
from tttlrm_jax.config.user_file import run_user_file
from tttlrm_jax.core.errors import ConfigError
from tttlrm_jax.ttt.registry import Registry, as_rule, checked_option
from tttlrm_jax.ttt.rules import RULES, override_rule

_Config = TypeVar("_Config")
HELP = ("-h", "--help")


def parse_with_rule(
    kind: type[_Config], arguments: list[str], prog: str, default: _Config | None = None
) -> _Config:
    """`parse_arguments` of a configuration that has a `rule`, or a `model` with one.

    A run's rule comes out complete. Raises ConfigError in one sentence for unknown rules,
    options and values; `--help` lists them all.
    """
    config: Any
    config, given = parse_apart(kind, arguments, prog, RULES, default)
    model = getattr(config, "model", None)
    if not isinstance(model, ModelConfig):
        rule = read_rule(RULES, given, None, prog) if given else config.rule
        return dataclasses.replace(config, rule=rule)
    if given:
        model = override_rule(model, read_rule(RULES, given, model.rule, prog))
    else:
        model = dataclasses.replace(model, rule=RULES.complete(model.rule))
    return dataclasses.replace(config, model=model)


def parse_apart(
    kind: type[_Config], arguments: list[str], prog: str, rules: Registry,
    default: _Config | None = None,
) -> tuple[_Config, dict[str, str]]:  # fmt: skip
    """The configuration without the arguments of a rule, and these by dotted name ("" is the rule
    itself). `--help` lists the rules too."""
    others, given = split_rule_arguments(arguments, prog)
    if not any(argument in HELP for argument in others):
        return parse_arguments(kind, others, prog, default), given
    if "" in given:
        rule_name(rules, given[""])  # a file's rule is to be listed too
    try:
        return parse_arguments(kind, others, prog, default), given
    finally:
        print(rules.help())


def split_rule_arguments(arguments: list[str], prog: str) -> tuple[list[str], dict[str, str]]:
    """Other arguments, and the rule's by dotted name ("" is the rule itself)."""
    others, given = [], {}
    rest = iter(arguments)
    for argument in rest:
        key, equals, value = argument.partition("=")
        prefix = "--model.rule" if key.startswith("--model.rule") else "--rule"
        name = key.removeprefix(prefix)
        if not key.startswith(prefix) or (name and not name.startswith(".")):
            others.append(argument)
            continue
        if not equals:
            value = next(rest, None)
            if value is None or value.startswith("--"):
                raise ConfigError(f"{argument} has no value; see {prog} --help")
        given[name.removeprefix(".").replace("-", "_")] = value
    return others, given


def read_rule(
    rules: Registry, given: dict[str, str], current: RuleConfig | None, prog: str,
    argument: str = "--rule",
) -> RuleConfig:  # fmt: skip
    """The rule of dotted arguments; without a name they change options of the current one.

    `argument` is what they are called on the command line.
    """
    if "" in given:
        base = RuleConfig(rule_name(rules, given[""]))
    elif current is not None:
        base = current
    else:
        raise ConfigError(f"--rule.{next(iter(given))} is given without --rule NAME; name the rule")
    values, nested = dict(base.options), {}
    for dotted, text in given.items():
        key, _, below = dotted.partition(".")
        if not key:
            continue
        try:
            option = rules.option(base.name, key)
        except ConfigError as error:
            raise ConfigError(f"{error}; see {prog} --help") from None
        if option.is_rule:
            nested.setdefault(key, {})[below] = text
        else:
            name = f"{argument}.{dotted}"
            values[key] = checked_option(name, read_value(name, text, option.kind), option.kind)
    for key, below in nested.items():
        wrapped = values.get(key, rules.option(base.name, key).default)
        wrapped = as_rule(f"{argument}.{key}", wrapped)
        values[key] = read_rule(rules, below, wrapped, prog, f"{argument}.{key}")
    return RuleConfig.of(base.name, **values)


def rule_name(rules: Registry, name: str) -> str:
    """The name itself, or that of the rule which the file of that name registers."""
    if name.endswith(".py"):
        return register_from_file(name, rules)
    rules.find(name)
    return name


def register_from_file(name: str, rules: Registry) -> str:
    """Runs a Python file that registers one rule; returns the rule's name.

    Raises ConfigError if there is no such file, it fails, or registers none or several.
    """
    remedy = "give a file that registers a rule"
    module = run_user_file(name, "rule file", "registering a rule", remedy)
    own = [rule for rule, entry in rules.items() if entry.build.__module__ == module.__name__]
    if len(own) != 1:
        raise ConfigError(
            f"rule file {name} registers {', '.join(own) or f'no {rules.kind}'}; it must register "
            f"one"
        )
    return own[0]
