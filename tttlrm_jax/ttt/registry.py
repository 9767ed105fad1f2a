"""Tables of rules by name, and the way from a configuration to a rule.

A rule is a function with keyword options that returns a tuple of pure functions. Its signature is
its configuration: names, types and defaults are read from there. Rules of fast weights
(`ttt.rules`) and of recurrent states (`ttt.state_rules`) have a table each.
"""

import dataclasses
import difflib
import functools
import inspect
import math
from collections.abc import Callable
from typing import Any, Literal, get_args, get_origin, get_type_hints

from tttlrm_jax.config.model import RuleConfig
from tttlrm_jax.config.validation import check_value, is_checked
from tttlrm_jax.core.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class RuleOption:
    """One keyword of a rule."""

    kind: Any  # a plain type or a Literal; None for a rule that this one wraps
    default: Any  # for a wrapped rule its name

    @property
    def is_rule(self) -> bool:
        return self.kind is None

    @property
    def follows_model(self) -> bool:
        """Left out, it takes `model.newton_schulz_dtype`."""
        return "bfloat16" in get_args(self.kind)


@dataclasses.dataclass(frozen=True)
class RegisteredRule:
    build: Callable[..., Any]
    options: dict[str, RuleOption]

    @property
    def summary(self) -> str:
        """First line of the docstring."""
        return (inspect.getdoc(self.build) or "").split("\n")[0]


class Registry(dict[str, RegisteredRule]):
    """Rules of one kind by name.

    `kind` is the word for one in messages. A parameter annotated `wrapped` is another rule of this
    table, which the function wraps.
    """

    def __init__(self, kind: str, wrapped: type | None = None):
        super().__init__()
        self.kind, self.wrapped = kind, wrapped
        self._built = functools.lru_cache(maxsize=64)(self._build)

    def register(self, build: Callable[..., Any] | None = None, *, inner: str = "muon") -> Any:
        """Decorator that lists a rule under its function's name.

        `inner` names the rule that a wrapper wraps by default. Raises ConfigError if the name is
        taken by another file, or an option has no default or a type no command line can express.
        """
        if build is None:
            return lambda function: self.register(function, inner=inner)
        name = build.__name__
        earlier = self.get(name)
        file = inspect.getsourcefile
        if earlier is not None and file(earlier.build) != file(build):
            raise ConfigError(f"{self.kind} {name} is registered already; choose another name")
        hints = get_type_hints(build)
        parameters = inspect.signature(build).parameters
        options = {
            key: self._option(name, hints.get(key), p, inner) for key, p in parameters.items()
        }
        self[name] = RegisteredRule(build, options)
        self._built.cache_clear()
        return build

    def _option(self, rule: str, kind: Any, parameter: inspect.Parameter, inner: str) -> RuleOption:
        if self.wrapped is not None and kind is self.wrapped:
            return RuleOption(None, inner)
        if parameter.default is inspect.Parameter.empty:
            raise ConfigError(
                f"option {parameter.name} of {self.kind} {rule} has no default; give one"
            )
        if not is_checked(kind):
            possible = "int, float, bool, str, Literal"
            possible += f" or {self.wrapped.__name__}" if self.wrapped else ""
            raise ConfigError(
                f"option {parameter.name} of {self.kind} {rule} is annotated {kind}; use {possible}"
            )
        return RuleOption(kind, parameter.default)

    def find(self, name: str) -> RegisteredRule:
        """The rule of that name. Raises ConfigError with near names."""
        if name not in self:
            near = difflib.get_close_matches(name, self, 1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise ConfigError(
                f"rule={name} is unknown; {hint}use one of {', '.join(sorted(self))}, or a file "
                f"NAME.py that registers one"
            )
        return self[name]

    def option(self, rule: str, key: str) -> RuleOption:
        """An option of a rule. Raises ConfigError, listing what the rule has."""
        options = self.find(rule).options
        if key not in options:
            raise ConfigError(
                f"rule {rule} has no option {key}; it has {', '.join(options) or 'none'}"
            )
        return options[key]

    def complete(self, rule: RuleConfig | str) -> RuleConfig:
        """Every option spelled out, so that a stored configuration outlives changed defaults.

        Only dtypes that follow `model.newton_schulz_dtype` stay out. Raises ConfigError for unknown
        names and values of the wrong type.
        """
        rule = as_rule("rule", rule)
        given, values = dict(rule.options), {}
        found = self.find(rule.name)
        for key in given:
            self.option(rule.name, key)
        for key, option in found.options.items():
            if key not in given and option.follows_model:
                continue
            value = given.get(key, option.default)
            if option.is_rule:
                values[key] = self.complete(as_rule(f"rule.{key}", value))
            else:
                values[key] = checked_option(f"rule.{key}", value, option.kind)
        return RuleConfig.of(rule.name, **values)

    def build(self, rule: RuleConfig | str, dtype: str = "bfloat16") -> Any:
        """The rule a configuration, or a name alone, describes.

        `dtype` is that of Newton-Schulz where it names none. Equal configurations give one and the
        same object: it can be a static argument of `jit`.
        """
        return self._built(self.complete(rule), dtype)

    def _build(self, rule: RuleConfig, dtype: str) -> Any:
        found, arguments = self.find(rule.name), dict(rule.options)
        for key, option in found.options.items():
            if option.is_rule:
                arguments[key] = self.build(arguments[key], dtype)
            elif option.follows_model:
                arguments.setdefault(key, dtype)
        return found.build(**arguments)

    def help(self) -> str:
        """All rules with their options, types and defaults."""
        lines = [f"{self.kind}s: --rule NAME, or a file NAME.py that registers one"]
        for name, rule in sorted(self.items()):
            lines.append(f"  {name:<14} {rule.summary}")
            lines += [
                f"    --rule.{key.replace('_', '-')} {_type_name(option)} "
                f"(default: {_default(option)})"
                for key, option in rule.options.items()
            ]
        return "\n".join(lines)


def _type_name(option: RuleOption) -> str:
    if option.is_rule:
        return "RULE"
    if get_origin(option.kind) is Literal:
        return "{" + ",".join(map(str, get_args(option.kind))) + "}"
    return option.kind.__name__.upper()


def _default(option: RuleOption) -> str:
    return "model.newton_schulz_dtype" if option.follows_model else str(option.default)


def as_rule(field: str, value: Any) -> RuleConfig:
    """A rule given as a configuration or by its name alone; ConfigError otherwise."""
    if isinstance(value, RuleConfig):
        return value
    if not isinstance(value, str):
        raise ConfigError(f"{field}={value!r} is no rule; give a RuleConfig or a rule's name")
    return RuleConfig(value)


def checked_option(field: str, value: Any, kind: Any) -> Any:
    """`value` if it is of that kind, numbers finite; ConfigError otherwise."""
    check_value(field, value, kind)
    if kind is float and not math.isfinite(value):
        raise ConfigError(f"{field}={value} is not finite; give a finite number")
    return value
