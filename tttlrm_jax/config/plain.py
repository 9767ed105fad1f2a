"""Configurations as nested dictionaries of plain values, for JSON, and back."""

import dataclasses
from typing import Any, TypeVar, get_type_hints

from tttlrm_jax.config.model import RuleConfig
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
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise ConfigError(
            f"{prefix or 'config'} has no field {', '.join(unknown)}; "
            f"known fields are {', '.join(sorted(hints))}"
        )
    arguments = {}
    for name, value in values.items():
        if hints[name] == RuleConfig | None and isinstance(value, dict):
            value = RuleConfig.from_dict(value)
        elif dataclasses.is_dataclass(hints[name]) and isinstance(value, dict):
            value = config_from_dict(hints[name], value, f"{prefix}{name}.")
        arguments[name] = tuple(value) if isinstance(value, list) else value
    try:
        return kind(**arguments)
    except TypeError as error:
        raise ConfigError(f"{prefix or 'config'} cannot be built: {error}") from error
