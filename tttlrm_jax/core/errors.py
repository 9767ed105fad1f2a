"""Errors a user can cause. Each says field, value, limit and remedy in one sentence."""

from collections.abc import Sequence
from typing import Any


class InputError(ValueError):
    """Input from outside (a file, an argument, an array's shape) breaks a stated limit.

    Command lines print it without a traceback and exit with code 2.
    """

    @classmethod
    def of(cls, field: str, value: Any, limit: str, remedy: str) -> "InputError":
        """`field=value` is wrong because of `limit`; `remedy` says what to do instead."""
        return cls(f"{field}={value} {limit}; {remedy}")


class ConfigError(InputError):
    """A configuration field has a value the program cannot honour."""


def listed(names: Sequence[str], most: int = 8, separator: str = ", ") -> str:
    """The first few names, and how many more there are."""
    more = len(names) - most
    return separator.join(names[:most]) + (f" and {more} more" if more > 0 else "")


def first_line(error: BaseException, most: int = 200) -> str:
    """The beginning of what an exception says, or its type where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0][:most] if lines else type(error).__name__
