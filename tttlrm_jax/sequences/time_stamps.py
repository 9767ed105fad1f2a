"""Which entries of two recordings were taken at the same time."""

import numpy as np


def nearest_stamps(first: np.ndarray, second: np.ndarray, max_difference: float) -> np.ndarray:
    """For each stamp of `first` [n] the index of the nearest of `second` [m]: int [n].

    -1 where none is within `max_difference`. Stamps are seconds and need not be sorted; the
    earlier of two equally near ones is taken.
    """
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if not len(second):
        return np.full(len(first), -1)
    order = np.argsort(second, kind="stable")
    ordered = second[order]
    right = np.searchsorted(ordered, first)
    left = np.maximum(right - 1, 0)
    right = np.minimum(right, len(ordered) - 1)
    nearer_left = np.abs(ordered[left] - first) <= np.abs(ordered[right] - first)
    nearest = np.where(nearer_left, left, right)
    return np.where(np.abs(ordered[nearest] - first) <= max_difference, order[nearest], -1)
