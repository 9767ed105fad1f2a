"""Lens distortion of the OpenCV camera model, and its removal by resampling.

A point (x, y) on the plane z = 1 appears at `radial * (x, y) + tangential` with
radial = 1 + k1 r^2 + k2 r^4 + k3 r^6 + k4 r^8 (Brown 1966; k3 and k4 in nerfstudio's order).
"""

import dataclasses
import functools

import numpy as np


@dataclasses.dataclass(frozen=True)
class Distortion:
    """Coefficients; all zero means an ideal pinhole."""

    k1: float = 0.0
    k2: float = 0.0
    k3: float = 0.0
    k4: float = 0.0
    p1: float = 0.0
    p2: float = 0.0

    def __bool__(self) -> bool:
        return any(dataclasses.astuple(self))


IDEAL_LENS = Distortion()


def distort(x: np.ndarray, y: np.ndarray, distortion: Distortion) -> tuple[np.ndarray, np.ndarray]:
    """Where ideal points on the plane z = 1 appear."""
    d, squared = distortion, x * x + y * y
    radial = 1 + squared * (d.k1 + squared * (d.k2 + squared * (d.k3 + squared * d.k4)))
    return (
        x * radial + 2 * d.p1 * x * y + d.p2 * (squared + 2 * x * x),
        y * radial + 2 * d.p2 * x * y + d.p1 * (squared + 2 * y * y),
    )


def undistort(image: np.ndarray, intrinsics: np.ndarray, distortion: Distortion) -> np.ndarray:
    """The picture an ideal pinhole with the same intrinsics takes; uint8 [h, w, channel].

    Bilinear; where the ideal camera sees past the edge of the photograph, the edge is repeated.
    """
    height, width = image.shape[:2]
    key = tuple(float(value) for value in intrinsics)
    row, column = _source_pixels(key, distortion, height, width)
    top, left = np.floor(row).astype(np.intp), np.floor(column).astype(np.intp)
    down, across = (row - top)[..., None], (column - left)[..., None]
    bottom, right = np.minimum(top + 1, height - 1), np.minimum(left + 1, width - 1)
    source = image.astype(np.float32)
    upper = source[top, left] * (1 - across) + source[top, right] * across
    lower = source[bottom, left] * (1 - across) + source[bottom, right] * across
    return np.rint(upper * (1 - down) + lower * down).astype(np.uint8)


@functools.lru_cache(maxsize=4)  # frames of one camera share it
def _source_pixels(
    intrinsics: tuple[float, ...], distortion: Distortion, height: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Array positions (row, column) float32 [h, w] in the photograph of each ideal pixel."""
    fx, fy, cx, cy = intrinsics
    row, column = np.meshgrid(np.arange(height) + 0.5, np.arange(width) + 0.5, indexing="ij")
    x, y = distort((column - cx) / fx, (row - cy) / fy, distortion)
    return (
        np.clip(fy * y + cy - 0.5, 0, height - 1).astype(np.float32),
        np.clip(fx * x + cx - 0.5, 0, width - 1).astype(np.float32),
    )
