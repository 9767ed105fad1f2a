"""Errors a user can cause. Each says field, value, limit and remedy in one sentence."""

from collections.abc import Sequence
from typing import Any

LONGEST = 2000  # characters of a message; what a file says may be as long as the file


class InputError(ValueError):
    """Input from outside (a file, an argument, an array's shape) breaks a stated limit.

    Command lines print it without a traceback and exit with code 2. Whatever values it shows, it
    is one line of at most `LONGEST` characters that can be printed.
    """

    def __init__(self, message: str = ""):
        super().__init__(one_line(message))

    @classmethod
    def of(cls, field: str, value: Any, limit: str, remedy: str) -> "InputError":
        """`field=value` is wrong because of `limit`; `remedy` says what to do instead."""
        return cls(f"{field}={value} {limit}; {remedy}")


class ConfigError(InputError):
    """A configuration field has a value the program cannot honour."""


def one_line(text: str, most: int = LONGEST) -> str:
    """A text whose characters can all be printed; of a long one the beginning and the end."""
    text = " ".join(text.splitlines())
    shown = "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)
    if len(shown) <= most:
        return shown
    half = (most - 5) // 2
    return f"{shown[:half]} ... {shown[-half:]}"


def listed(names: Sequence[str], most: int = 8, separator: str = ", ") -> str:
    """The first few names, and how many more there are."""
    more = len(names) - most
    return separator.join(names[:most]) + (f" and {more} more" if more > 0 else "")


def first_line(error: BaseException, most: int = 200) -> str:
    """The beginning of what an exception says, or its type where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0][:most] if lines else type(error).__name__
