"""How a cost grows with the number of views.

Two fits of the same points, both in relative error:

- the plain exponent: slope of log cost over log views;
- `constant + slope * views^power`: what does not grow (Newton-Schulz, once per update; dispatch)
  apart from what does. `power` is the exponent of the growing part, `constant_views` the constant
  in units of one view's cost.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

POWERS = np.arange(0.5, 2.5005, 0.005)


@dataclasses.dataclass(frozen=True)
class Growth:
    """The fits of one curve."""

    exponent: float  # plain
    power: float  # of the growing part
    constant_views: float
    off_line: float  # largest relative distance from `constant + slope * views`


def fit_growth(views: Sequence[float], cost: Sequence[float]) -> Growth | None:
    """Both fits; None for fewer than four different numbers of views or a cost of zero."""
    x, y = np.asarray(views, float), np.asarray(cost, float)
    if len(set(views)) < 4 or (y <= 0).any():
        return None
    power = min(POWERS, key=lambda p: _affine(x**p, y)[2])
    constant, slope, _ = _affine(x, y)
    distance = np.abs((constant + slope * x) / y - 1).max()
    return Growth(
        exponent=float(np.polyfit(np.log(x), np.log(y), 1)[0]),
        power=float(power),
        constant_views=float(constant / slope) if slope > 0 else float("inf"),
        off_line=float(distance),
    )


def _affine(x: np.ndarray, y: np.ndarray) -> tuple[float, float, float]:
    """Non-negative constant and slope of `y` over `x`, and the sum of squared relative errors."""
    tries = []
    for columns in ([np.ones_like(x), x], [x], [np.ones_like(x)]):
        design = np.stack(columns, axis=1) / y[:, None]
        solution = np.linalg.lstsq(design, np.ones_like(y), rcond=None)[0]
        if (solution >= 0).all():
            error = float(np.sum((design @ solution - 1) ** 2))
            constant = solution[0] if columns[0] is not x else 0.0
            slope = solution[-1] if columns[-1] is x else 0.0
            tries.append((float(constant), float(slope), error))
    return min(tries, key=lambda found: found[2])
