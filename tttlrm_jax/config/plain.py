"""Configurations as nested dictionaries of plain values, for JSON, and back."""

import dataclasses
from typing import Any, TypeVar, get_args, get_type_hints

from tttlrm_jax.config.model import MUON, ModelConfig, RuleConfig
from tttlrm_jax.core.errors import ConfigError

Config = TypeVar("Config")


def config_to_dict(config: Any) -> dict[str, Any]:
    """A configuration as nested dictionaries of plain values, for JSON."""
    if isinstance(config, RuleConfig):
        return config.to_dict()
    fields = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    return {
        name: config_to_dict(value) if dataclasses.is_dataclass(value) else value
        for name, value in fields.items()
    }


def config_from_dict(kind: type[Config], values: dict[str, Any], prefix: str = "") -> Config:
    """Builds `kind` from nested dictionaries; fields that are absent take their defaults.

    Raises ConfigError for a name that is not a field, listing the known ones.
    """
    hints = get_type_hints(kind)
    if kind is ModelConfig:
        values = _with_rule(values)
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise ConfigError(
            f"{prefix or 'config'} has no field {', '.join(unknown)}; "
            f"known fields are {', '.join(sorted(hints))}"
        )
    arguments = {}
    for name, value in values.items():
        if RuleConfig in (hints[name], *get_args(hints[name])) and isinstance(value, dict):
            value = RuleConfig.from_dict(value)
        elif dataclasses.is_dataclass(hints[name]) and isinstance(value, dict):
            value = config_from_dict(hints[name], value, f"{prefix}{name}.")
        arguments[name] = tuple(value) if isinstance(value, list) else value
    try:
        return kind(**arguments)
    except TypeError as error:
        raise ConfigError(f"{prefix or 'config'} cannot be built: {error}") from error


def _with_rule(values: dict[str, Any]) -> dict[str, Any]:
    """Fields of a model as they are now: until version 0.2 some of them described Muon and the
    elastic pull, unless there was a `rule`."""
    values = dict(values)
    steps = values.pop("muon_steps", dict(MUON.options)["steps"])
    strength = values.pop("elastic_strength", 0.0)
    decays = {
        name: values.pop(f"elastic_{name}", default)
        for name, default in (("fisher_decay", 0.5), ("anchor_decay", 0.8))
    }
    if values.get("rule") is None:
        rule = RuleConfig.of("muon", **{**dict(MUON.options), "steps": steps})
        if strength:
            rule = RuleConfig.of("elastic", inner=rule, strength=strength, **decays)
        values["rule"] = rule.to_dict()
    return values
