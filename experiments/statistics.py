"""Means over scenes or seeds with their standard errors, as numbers and as text."""

import math
from typing import Any

import numpy as np


def standard_error(samples: np.ndarray) -> float | None:
    """Of the mean of samples [sample]; None for a single one."""
    if len(samples) < 2:
        return None
    return float(samples.std(ddof=1) / math.sqrt(len(samples)))


def mean_and_error(samples: np.ndarray) -> dict[str, Any]:
    """Means of samples [sample, ...] over the first axis and their standard errors, as lists.

    Errors of a single sample are None.
    """
    columns = samples.reshape(len(samples), -1).T
    errors = np.array([standard_error(column) for column in columns], object)
    return {
        "mean": samples.mean(axis=0).tolist(),
        "standard_error": errors.reshape(samples.shape[1:]).tolist(),
    }


def with_error(mean: float, error: float | None, digits: int = 2, sign: str = "") -> str:
    """`1.50 +- 0.20`; without an error the mean alone. `sign="+"` shows that of gains, too."""
    spread = "" if error is None or math.isnan(error) else f" +- {error:.{digits}f}"
    return f"{mean:{sign}.{digits}f}{spread}"
