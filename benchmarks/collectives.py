"""Bytes that a compiled program moves between devices, read from its text.

Counted is what a device puts into each collective, times the number of times it runs: operations
inside loops count once per trip.
"""

import collections
import math
import re

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
_ITEM_BYTES = {
    "pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4, "s64": 8,
    "u64": 8, "f64": 8,
}  # fmt: skip
_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\) -> .* \{$")
_OPERATION = re.compile(r"^\s*(?:ROOT )?%?([\w.\-]+) = (.*?) ([\w\-]+)\((.*)$")
_SHAPE = re.compile(r"\b([a-z]+\d*)\[([\d,]*)\]")
_CALLED = re.compile(r"(?:body|to_apply|calls|branch_computations|condition)=\{?([^,}\s]+)")
_TRIPS = re.compile(r"known_trip_count\W+n\W+(\d+)")


def collective_bytes(text: str) -> dict[str, int]:
    """Bytes by kind of collective, of one device, from `compiled.as_text()`.

    Raises ValueError for a collective in a loop whose number of trips is unknown.
    """
    computations, entry = _parse(text)

    def count(name: str) -> collections.Counter:
        total: collections.Counter = collections.Counter()
        for kind, moved, called, trips in computations.get(name, ()):
            if kind is not None:
                total[kind] += moved
            for inner in called:
                below = count(inner)
                if below and trips is None:
                    raise ValueError(f"a loop around {inner} has no known number of trips")
                total.update({key: value * (trips or 1) for key, value in below.items()})
        return total

    return {kind: count(entry)[kind] for kind in KINDS}


def _parse(text: str):
    """Operations of each computation as (kind or None, bytes, called computations, trips)."""
    computations: dict[str, list] = {}
    current, entry, shapes = "", "", {}
    for line in text.splitlines():
        start = _COMPUTATION.match(line)
        if start:
            current, shapes = start.group(1), {}
            computations[current] = []
            entry = current if line.startswith("ENTRY") else entry
            continue
        operation = _OPERATION.match(line)
        if not operation:
            continue
        name, shape, operator, rest = operation.groups()
        shapes[name] = _bytes_of(shape)
        kind = operator.removesuffix("-start")
        kind = kind if kind in KINDS else None
        called = [] if kind else [c.lstrip("%") for c in _CALLED.findall(rest)]
        trips = 1
        if operator == "while":
            known = _TRIPS.search(rest)
            trips = int(known.group(1)) if known else None
        operands = re.findall(r"%([\w.\-]+)", rest.split(")")[0])
        moved = sum(shapes.get(operand, 0) for operand in operands) if kind else 0
        if kind or called:
            computations[current].append((kind, moved, called, trips))
    return computations, entry


def _bytes_of(shape: str) -> int:
    return sum(
        _ITEM_BYTES.get(kind, 0) * math.prod(int(n) for n in sizes.split(",") if n)
        for kind, sizes in _SHAPE.findall(shape)
    )
