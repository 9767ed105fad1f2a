"""Rows of the parity report: one quantity of one recording against our value."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import SupportsFloat

import numpy as np


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """`error` and `tolerance` are in the measure that `measure` names."""

    file: str
    quantity: str
    error: float
    tolerance: float
    measure: str
    ok: bool

    def about(self, detail: str) -> "Row":
        """The same verdict, with `detail` after the quantity's name."""
        return dataclasses.replace(self, quantity=f"{self.quantity} {detail}")

    def line(self) -> str:
        verdict = "ok" if self.ok else "FAIL"
        return (
            f"{self.file:<36} {self.quantity:<64} {self.error:10.3e} "
            f"{self.tolerance:10.3e} {self.measure:<7} {verdict}"
        )


# Runs one recording and yields a row for each recorded quantity.
FileCheck = Callable[[Path], Iterator[Row]]


def row(file: Path, quantity: str, error: SupportsFloat, tolerance: float, measure: str) -> Row:
    """Judges one number; a NaN error fails."""
    error = float(error)
    ok = bool(error <= tolerance)
    return Row(
        file=file.name, quantity=quantity, error=error, tolerance=tolerance, measure=measure, ok=ok
    )


def compare(file: Path, quantity: str, actual, expected, tolerance: float, measure: str = "rel"):
    """Max error of `actual` against `expected`.

    Measures: `rel` divides by the largest absolute expected entry (by 1 when that is 0), `abs`
    does not divide, `1+abs` divides each entry by 1 plus its absolute value, `l2` is the relative
    Frobenius error, `exact` demands equality (error = number of differing entries).
    """
    actual = np.asarray(actual)
    expected = np.asarray(expected)
    if actual.shape != expected.shape:
        name = f"{quantity} shape {actual.shape} != {expected.shape}"
        return row(file, name, float("inf"), tolerance, measure)
    if measure == "exact":
        return row(file, quantity, float(np.sum(actual != expected)), 0.0, measure)
    actual, expected = actual.astype(np.float64), expected.astype(np.float64)
    if actual.size == 0:
        return row(file, quantity, 0.0, tolerance, measure)
    difference = np.abs(actual - expected)
    if measure == "l2":
        norm = np.linalg.norm(expected.ravel())
        error = np.linalg.norm(difference.ravel()) / (norm if norm > 0 else 1.0)
    else:
        if measure == "1+abs":
            difference = difference / (1 + np.abs(expected))
        error = difference.max() if np.isfinite(difference).all() else float("nan")
        if measure == "rel":
            scale = np.abs(expected).max()
            error = error / (scale if scale > 0 else 1.0)
    return row(file, quantity, error, tolerance, measure)
