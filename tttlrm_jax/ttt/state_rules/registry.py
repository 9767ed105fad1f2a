"""The table of state rules, and the way from a configuration to a rule."""

import difflib
import functools
import inspect
from collections.abc import Callable
from typing import get_type_hints

from tttlrm_jax.config import RuleConfig
from tttlrm_jax.core.errors import ConfigError
from tttlrm_jax.ttt.rules.registry import RuleOption, checked_option, read_option
from tttlrm_jax.ttt.state_rules.base import StateRule


class RegisteredStateRule:
    """A rule's function and its options by name."""

    def __init__(self, build: Callable[..., StateRule], options: dict[str, RuleOption]):
        self.build = build
        self.options = options

    @property
    def summary(self) -> str:
        """First line of the docstring."""
        return (inspect.getdoc(self.build) or "").split("\n")[0]


STATE_RULES: dict[str, RegisteredStateRule] = {}


def register_state_rule(build: Callable[..., StateRule]) -> Callable[..., StateRule]:
    """Decorator that lists a state rule under its function's name.

    The signature is the configuration: every option has a plain type and a default. Raises
    ConfigError if it is not so, or if the name is taken by another file.
    """
    name = build.__name__
    earlier = STATE_RULES.get(name)
    if earlier and inspect.getsourcefile(earlier.build) != inspect.getsourcefile(build):
        raise ConfigError(f"state rule {name} is registered already; choose another name")
    hints = get_type_hints(build)
    options = {
        key: read_option(name, key, hints, parameter, "")
        for key, parameter in inspect.signature(build).parameters.items()
    }
    STATE_RULES[name] = RegisteredStateRule(build, options)
    _built.cache_clear()
    return build


def find_state_rule(name: str) -> RegisteredStateRule:
    """The rule of that name. Raises ConfigError with near names."""
    if name not in STATE_RULES:
        near = difflib.get_close_matches(name, STATE_RULES, 1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ConfigError(
            f"rule={name} is unknown; {hint}use one of {', '.join(sorted(STATE_RULES))}, or a "
            f"file NAME.py that registers one"
        )
    return STATE_RULES[name]


def complete_state_rule(rule: RuleConfig) -> RuleConfig:
    """Every option spelled out; ConfigError for unknown names and values of the wrong type."""
    options, given = find_state_rule(rule.name).options, dict(rule.options)
    unknown = sorted(given.keys() - options.keys())
    if unknown:
        raise ConfigError(
            f"rule {rule.name} has no option {', '.join(unknown)}; "
            f"it has {', '.join(options) or 'none'}"
        )
    values = {
        key: checked_option(f"rule.{key}", given.get(key, option.default), option.kind)
        for key, option in options.items()
    }
    return RuleConfig.of(rule.name, **values)


def build_state_rule(rule: RuleConfig | str) -> StateRule:
    """The rule that a configuration, or a name alone, describes.

    Equal configurations give one and the same object: it can be a static argument of `jit`.
    """
    return _built(complete_state_rule(RuleConfig(rule) if isinstance(rule, str) else rule))


@functools.lru_cache(maxsize=64)
def _built(rule: RuleConfig) -> StateRule:
    return find_state_rule(rule.name).build(**dict(rule.options))
