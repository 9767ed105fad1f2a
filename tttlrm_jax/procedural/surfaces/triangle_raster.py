"""Which triangle each sample of an image sees: scan conversion and a z-buffer in NumPy.

Samples lie at +0.5 of a grid. An edge that two triangles share is computed alike for both and rows
and spans are half open, so surfaces have neither gaps nor doubled samples.
"""

import dataclasses

import numpy as np

NEAR = 0.05  # scene units; triangles are clipped there


@dataclasses.dataclass(frozen=True)
class Hits:
    """What samples [row, column] see."""

    triangle: np.ndarray  # int32 [height, width], -1 where nothing is seen
    nearness: np.ndarray  # float32 [height, width], the interpolated third coordinate, else -inf


def rasterize(corners: np.ndarray, height: int, width: int) -> Hits:
    """Scan-converts triangles float64 [triangle, 3, 3] of x, y in samples and nearness.

    Nearness is linear on the screen, and the largest is seen: 1 / z for a perspective camera,
    -z for an orthographic one.
    """
    nearness = np.full(height * width, -np.inf, np.float32)
    owner = np.full(height * width, -1, np.int32)
    x, y, near = _by_height(corners)
    first, last = _samples(y[0], y[2], height)
    area = (x[1] - x[0]) * (y[2] - y[0]) - (x[2] - x[0]) * (y[1] - y[0])
    used = np.flatnonzero((last > first) & (np.abs(area) > 1e-12))
    index, row = _ranges(first[used], last[used])
    index = used[index]
    left, right = _span(x, y, index, row)
    start, stop = _samples(left, right, width)
    spans = np.flatnonzero(stop > start)
    index, row, start, stop = index[spans], row[spans], start[spans], stop[spans]
    slope_x, slope_y = _slopes(x, y, near, area)
    base = near[0][index] + slope_y[index] * (row + 0.5 - y[0][index])
    base = base + slope_x[index] * (start + 0.5 - x[0][index])
    count = stop - start
    step = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)  # within its span
    value = np.repeat(slope_x[index].astype(np.float32), count)
    value *= step.astype(np.float32)
    value += np.repeat(base.astype(np.float32), count)
    sample = np.repeat(row * width + start, count)
    sample += step
    np.maximum.at(nearness, sample, value)
    wins = np.flatnonzero(value == nearness.take(sample, mode="clip"))
    owner[sample[wins]] = np.repeat(index.astype(np.int32), count)[wins]
    return Hits(owner.reshape(height, width), nearness.reshape(height, width))


def _by_height(corners: np.ndarray) -> np.ndarray:
    """Corners [3 (x, y, nearness), 3, triangle] in ascending order of y."""
    order = corners[:, :, 1].argsort(axis=1, kind="stable")
    ascending = np.take_along_axis(corners, order[:, :, None], axis=1)
    return np.ascontiguousarray(ascending.transpose(2, 1, 0))


def _samples(low: np.ndarray, high: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the samples in [low, high), first and one past the last, within the image."""
    edges = (np.clip(edge, -1.0, size + 1.0) for edge in (low, high))
    first, last = (np.ceil(edge - 0.5).astype(np.int64).clip(0, size) for edge in edges)
    return first, last


def _ranges(first: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each number of each range [first, last): the range's index, and the number."""
    count = last - first
    index = np.repeat(np.arange(len(count)), count)
    offset = np.cumsum(count) - count
    return index, np.arange(len(index)) + (first - offset)[index]


def _span(x, y, index, row) -> tuple[np.ndarray, np.ndarray]:
    """Left and right end of triangles `index` at sample rows; corners are sorted by y."""

    def slope(a, b):
        rise = y[b] - y[a]
        return (x[b] - x[a]) / np.where(rise == 0, 1.0, rise)

    height = row + 0.5
    long = x[0][index] + (height - y[0][index]) * slope(0, 2)[index]
    upper = x[0][index] + (height - y[0][index]) * slope(0, 1)[index]
    lower = x[1][index] + (height - y[1][index]) * slope(1, 2)[index]
    short = np.where(height < y[1][index], upper, lower)
    return np.minimum(long, short), np.maximum(long, short)


def _slopes(x, y, near, area) -> tuple[np.ndarray, np.ndarray]:
    """Derivatives of nearness by x and y, per triangle."""
    safe = np.where(area == 0, 1.0, area)
    one, two = near[1] - near[0], near[2] - near[0]
    by_x = (one * (y[2] - y[0]) - two * (y[1] - y[0])) / safe
    by_y = (two * (x[1] - x[0]) - one * (x[2] - x[0])) / safe
    return by_x, by_y
