"""The one order of names: numbers in them count as numbers, decimals as decimals.

`frame2` comes before `frame10`, and `1764470000.8333335` before `1764470000.866667`, as programs
print floats. Digits are 0 to 9 only: any other character that means a number is a letter here.
"""

import functools
import re
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import TypeVar

_Item = TypeVar("_Item")
_Part = tuple[int, int, str, str]  # a number: 0, digits before the point, these, those behind it
_ENDING = re.compile(r"\.[A-Za-z]\w{0,4}$")
# a decimal has one point: 1.2.3 and 2026.11.30 are counts, one after the other
_DECIMAL = re.compile(
    r"(?<![0-9.])[0-9]+(?:\.[0-9]+(?:[eE][+-][0-9]{1,3})?|[eE][+-][0-9]{2,3})(?!\.?[0-9])"
)
_DIGITS = re.compile(r"[0-9]+|[^0-9]+")


def natural_order(items: Iterable[_Item], name: Callable[[_Item], str] = str) -> list[_Item]:
    """The items in natural order of their names, paths folder by folder, endings last.

    A point between digits makes a decimal, unless some of them end in 0 and are not equally long
    (1.9, 1.10), which no program prints: these are two counts.
    """
    items = list(items)
    names = [name(item) for item in items]
    key = functools.partial(_key, decimals=_are_decimals(names))
    order = sorted(range(len(items)), key=lambda index: key(names[index]))
    return [items[index] for index in order]


def _are_decimals(names: list[str]) -> bool:
    found = [number for name in names for number in _DECIMAL.findall(_stem(name))]
    behind = [number.partition(".")[2] for number in found if "e" not in number.lower()]
    printed = [digits for digits in behind if digits != "0"]
    padded = any(digits.endswith("0") for digits in printed)
    return not padded or len({len(digits) for digits in behind}) == 1


def _key(name: str, decimals: bool) -> tuple:
    *folders, last = name.replace("\\", "/").split("/")
    parts = [_parts(folder, decimals) for folder in (*folders, _stem(last))]
    return (parts, name)


def _stem(name: str) -> str:
    return _ENDING.sub("", name)


def _parts(text: str, decimals: bool) -> list[_Part]:
    """Numbers come before letters."""
    parts, end = [], 0
    for match in _DECIMAL.finditer(text) if decimals else ():
        parts += [*_counts(text[end : match.start()]), _number(format(Decimal(match[0]), "f"))]
        end = match.end()
    return parts + _counts(text[end:])


def _counts(text: str) -> list[_Part]:
    return [_number(part) if part[0] in "0123456789" else (1, 0, part, "")
            for part in _DIGITS.findall(text)]  # fmt: skip


def _number(text: str) -> _Part:
    """Compares as its value, however many digits it has."""
    whole, _, behind = text.partition(".")
    whole = whole.lstrip("0")
    return 0, len(whole), whole, behind.rstrip("0")
