"""Bicubic resizing of float maps as image libraries do it: cubic with a = -0.75, no smoothing.

Samples lie at pixel middles; beyond the border the outermost pixel repeats. Values may overshoot.
"""

import numpy as np

SHARPNESS = -0.75


def resize_cubic(values: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """A map [height, width] resized to `size` (height, width), in the map's dtype."""
    height, width = size
    out = np.asarray(values, np.float64)
    for axis, length in ((0, height), (1, width)):
        index, weight = _taps(out.shape[axis], length)
        taps = np.take(out, index, axis=axis)  # [.., length, 4, ..]
        shape = (length, 4, 1) if axis == 0 else (1, length, 4)
        out = np.sum(taps * weight.reshape(shape), axis=axis + 1)
    return out.astype(values.dtype)


def _taps(old: int, new: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices and weights [new, 4] of the samples that each new one mixes."""
    place = (np.arange(new) + 0.5) * old / new - 0.5
    first = np.floor(place)
    offset = np.arange(-1, 3)
    distance = np.abs(place[:, None] - first[:, None] - offset)
    a = SHARPNESS
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    weight = np.where(distance <= 1, near, far)
    index = np.clip(first[:, None] + offset, 0, old - 1).astype(int)
    return index, weight
