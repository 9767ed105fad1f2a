"""Rows of the parity report: one quantity of one recording against our value."""

import dataclasses
import math
from collections.abc import Callable

import numpy as np


@dataclasses.dataclass(frozen=True)
class Row:
    """`error` and `tolerance` are in the measure that `measure` names."""

    file: str
    quantity: str
    error: float
    tolerance: float = 0.0
    measure: str = "exact"

    @property
    def ok(self) -> bool:
        """NaN is no success."""
        return self.error <= self.tolerance

    def named(self, template: str) -> "Row":
        """The same verdict on `template` with the quantity's name in place of `{}`."""
        return dataclasses.replace(self, quantity=template.format(self.quantity))

    def plain(self) -> dict:
        """For JSON, which knows neither NaN nor infinity."""
        error = self.error if math.isfinite(self.error) else None
        return {**dataclasses.asdict(self), "error": error, "ok": self.ok}

    def line(self) -> str:
        verdict = "ok" if self.ok else "FAIL"
        return (
            f"{self.file:<36} {self.quantity:<64} {self.error:10.3e} "
            f"{self.tolerance:10.3e} {self.measure:<7} {verdict}"
        )


# An error from absolute differences and the expected values, float64 arrays of one shape.
Measure = Callable[[np.ndarray, np.ndarray], float | np.ndarray]


def over(error, scale):
    """Errors over their scales, where these are not 0."""
    return error / np.where(scale > 0, scale, 1.0)


def _over_one_plus(gap: np.ndarray, expected: np.ndarray):
    return np.max(gap / (1 + np.abs(expected)))


MEASURES: dict[str, Measure] = {
    "abs": lambda gap, expected: np.max(gap),
    "rel": lambda gap, expected: over(np.max(gap), np.max(np.abs(expected))),
    "l2": lambda gap, expected: over(np.linalg.norm(gap), np.linalg.norm(expected)),
    "1+abs": _over_one_plus,
    "1+rel": _over_one_plus,
}


def error_of(actual: np.ndarray, expected: np.ndarray, measure: Measure) -> float:
    """The error of arrays of one shape; that of empty ones is 0."""
    actual, expected = actual.astype(np.float64), expected.astype(np.float64)
    return float(measure(np.abs(actual - expected), expected)) if expected.size else 0.0
