"""Checks of configuration dataclasses, for ours and for those of users.

Annotations say what a field holds: its type, and with `Bound` which values of it.
"""

import dataclasses
import math
from collections.abc import Callable
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from tttlrm_jax.core.errors import ConfigError


def require(condition: bool, field: str, value, limit: str, remedy: str) -> None:
    if not condition:
        raise ConfigError(f"{field}={value} {limit}; {remedy}")


@dataclasses.dataclass(frozen=True)
class Bound:
    """What a value has to hold, and what an error says where it does not."""

    holds: Callable[[Any], bool]
    limit: str
    remedy: str


def between(low: float, high: float) -> Bound:
    """Values in [low, high]."""
    limit = f"is not in [{low:g}, {high:g}]"
    return Bound(lambda value: low <= value <= high, limit, f"use {low:g} to {high:g}")


FINITE = Bound(math.isfinite, "is not finite", "use a number that is")
_POSITIVE = Bound(lambda value: value > 0, "is not positive", "use a value above 0")
_NON_NEGATIVE = Bound(lambda value: value >= 0, "is negative", "use 0 or more")
PositiveInt, PositiveFloat = Annotated[int, _POSITIVE], Annotated[float, _POSITIVE]
NonNegativeInt, NonNegativeFloat = Annotated[int, _NON_NEGATIVE], Annotated[float, _NON_NEGATIVE]
Share = Annotated[float, Bound(lambda value: 0 <= value <= 1, "is not in [0, 1]", "use a share")]
ShareBelow1 = Annotated[
    float, Bound(lambda value: 0 <= value < 1, "is not in [0, 1)", "use a share below 1")
]
PositiveShare = Annotated[
    float, Bound(lambda value: 0 < value <= 1, "is not in (0, 1]", "use a share above 0")
]
RGB = Annotated[
    tuple[float, float, float],
    Bound(
        lambda colour: all(0 <= channel <= 1 for channel in colour), "is not RGB in [0, 1]",
        "use three numbers in it",
    ),
]  # fmt: skip
PathText = Annotated[str, Bound(lambda text: text != "", "is empty", "name a path or leave it out")]

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
    """Holds each field to its annotation: choices, whole numbers, numbers, switches, texts, bounds;
    and `min_NAME` to at most `max_NAME`. Bounds leave out what is None."""
    for name, annotation in get_type_hints(type(config), include_extras=True).items():
        field, value = _dotted(prefix, name), getattr(config, name)
        hint, bounds = _hint_and_bounds(annotation)
        if is_checked(hint):
            check_value(field, value, hint)
        for bound in bounds if value is not None else ():
            require(bound.holds(value), field, repr(value), bound.limit, bound.remedy)
    for name, low in vars(config).items():
        largest = name.replace("min_", "max_", 1)
        if name.startswith("min_") and hasattr(config, largest):
            high = getattr(config, largest)
            limit = f"is above {_dotted(prefix, largest)}={high}"
            require(low <= high, _dotted(prefix, name), low, limit, "swap or widen them")


def _dotted(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def _hint_and_bounds(annotation: Any) -> tuple[Any, list[Bound]]:
    """A type without its bounds; of a union (with None) the union itself, and all bounds in it."""
    if get_origin(annotation) is Annotated:
        hint, *extras = get_args(annotation)
        return hint, [extra for extra in extras if isinstance(extra, Bound)]
    inner = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else ()
    return annotation, [bound for part in inner for bound in _hint_and_bounds(part)[1]]


def check_value(field: str, value: Any, hint: Any) -> None:
    """Holds a value to a plain type or a Literal; ConfigError otherwise."""
    if get_origin(hint) is Literal:
        choices = get_args(hint)
        require(value in choices, field, value, "is unknown", f"use one of {choices}")
        return
    kind, accepted = PLAIN_TYPES[hint]
    fits = isinstance(value, accepted) and (hint is bool or not isinstance(value, bool))
    require(fits, field, repr(value), f"is not {kind}", f"give {kind}")


def require_patches(prefix: str, size: tuple[int, int], patch_size: int) -> None:
    """Holds height and width of pictures to multiples of the model's patches."""
    for side, value in zip(("height", "width"), size, strict=True):
        limit = f"is not a multiple of model.patch_size={patch_size}"
        require(value % patch_size == 0, f"{prefix}{side}", value, limit, "change one of them")


def require_directory_name(field: str, name: str) -> None:
    require(
        name not in ("", ".", "..") and not set(name) & set("/\\\0"), field, repr(name),
        "is not the name of a directory in train.directory", "use a word without slashes",
    )  # fmt: skip
