"""Checks of configuration dataclasses, for ours and for those of users."""

from typing import Any, Literal, get_args, get_origin, get_type_hints

from tttlrm_jax.core.errors import ConfigError


def require(condition: bool, field: str, value, limit: str, remedy: str) -> None:
    if not condition:
        raise ConfigError(f"{field}={value} {limit}; {remedy}")


PLAIN_TYPES: dict[Any, tuple[str, tuple[type, ...]]] = {
    int: ("a whole number", (int,)),
    float: ("a number", (int, float)),
    bool: ("True or False", (bool,)),
    str: ("a text", (str,)),
}


def is_checked(hint: Any) -> bool:
    """Whether `check_value` knows the annotation."""
    return hint in PLAIN_TYPES or get_origin(hint) is Literal


def check_fields(prefix: str, config: Any) -> None:
    """Holds each field to its annotation: choices, whole numbers, numbers, switches, texts."""
    for name, hint in get_type_hints(type(config)).items():
        if is_checked(hint):
            check_value(f"{prefix}.{name}" if prefix else name, getattr(config, name), hint)


def check_value(field: str, value: Any, hint: Any) -> None:
    """Holds a value to a plain type or a Literal; ConfigError otherwise."""
    if get_origin(hint) is Literal:
        choices = get_args(hint)
        require(value in choices, field, value, "is unknown", f"use one of {choices}")
        return
    kind, accepted = PLAIN_TYPES[hint]
    fits = isinstance(value, accepted) and (hint is bool or not isinstance(value, bool))
    require(fits, field, repr(value), f"is not {kind}", f"give {kind}")


def require_positive(prefix: str, config, *fields: str) -> None:
    for field in fields:
        value = getattr(config, field)
        require(value > 0, f"{prefix}.{field}", value, "is not positive", "use a value above 0")


def require_directory_name(field: str, name: str) -> None:
    require(
        name not in ("", ".", "..") and not set(name) & set("/\\\0"), field, repr(name),
        "is not the name of a directory in train.directory", "use a word without slashes",
    )  # fmt: skip
