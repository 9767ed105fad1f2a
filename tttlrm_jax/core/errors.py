"""Errors a user can cause. Each says field, value, limit and remedy in one sentence."""

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
