"""Errors of means that several studies state."""

import math

import numpy as np


def standard_error(scores: np.ndarray) -> float | None:
    """Of the mean of scores [scene]; None for one scene."""
    if len(scores) < 2:
        return None
    return float(scores.std(ddof=1) / math.sqrt(len(scores)))
