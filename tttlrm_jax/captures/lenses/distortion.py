"""Lens distortion, and its removal by resampling to an ideal pinhole.

`Distortion` is Brown's polynomial: a point (x, y) on the plane z = 1 appears at
`radial * (x, y) + tangential` with radial = 1 + k1 r^2 + k2 r^4 + k3 r^6 + k4 r^8 (Brown 1966; k3
and k4 in nerfstudio's order). Every other model of COLMAP is a `ModelDistortion` (`lenses`).
"""

import dataclasses
import functools

import numpy as np

from tttlrm_jax.captures.lenses.models import ModelDistortion

FOLD_STEPS, FOLD_DIRECTIONS = 2048, 16  # of the search for the radius where a lens folds back


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

    def apply(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where ideal points on the plane z = 1 appear."""
        return distort(x, y, self)


AnyDistortion = Distortion | ModelDistortion
IDEAL_LENS = Distortion()


def distort(x: np.ndarray, y: np.ndarray, distortion: Distortion) -> tuple[np.ndarray, np.ndarray]:
    """Where ideal points on the plane z = 1 appear."""
    d, squared = distortion, x * x + y * y
    radial = 1 + squared * (d.k1 + squared * (d.k2 + squared * (d.k3 + squared * d.k4)))
    return (
        x * radial + 2 * d.p1 * x * y + d.p2 * (squared + 2 * x * x),
        y * radial + 2 * d.p2 * x * y + d.p1 * (squared + 2 * y * y),
    )


def undistort(
    image: np.ndarray,
    intrinsics: np.ndarray,
    distortion: AnyDistortion,
    onto: tuple[np.ndarray, tuple[int, int]] | None = None,
) -> np.ndarray:
    """The picture an ideal pinhole takes: uint8 [h, w, 4], straight alpha, of [h, w, 3 or 4].

    The pinhole has the same intrinsics and size, or those of `onto` (intrinsics [4], (height,
    width)). Bilinear; where it sees past the edge of the photograph, or where the lens model folds
    back on itself, alpha and colour are 0. Colour counts by its alpha, so that none bleeds in.
    """
    target, size = (intrinsics, image.shape[:2]) if onto is None else onto
    lens, ideal = (tuple(map(float, values)) for values in (intrinsics, target))
    row, column, inside = _source_pixels(lens, distortion, image.shape[:2], ideal, tuple(size))
    if image.shape[-1] == 3:
        colours = [_bilinear(image[..., channel], row, column) for channel in range(3)]
        seen = np.stack([*colours, np.full(inside.shape, 255, np.float32)], -1)
        return (np.rint(seen) * inside[..., None]).astype(np.uint8)
    opacity = image[..., 3] / np.float32(255)
    alpha = _bilinear(image[..., 3], row, column)
    mixed = (_bilinear(image[..., n] * opacity, row, column) for n in range(3))
    straight = [np.minimum(255 * each / np.where(alpha > 0, alpha, 1), 255) for each in mixed]
    return np.rint(np.stack([*straight, alpha], -1) * inside[..., None]).astype(np.uint8)


def undistort_map(
    values: np.ndarray, intrinsics: np.ndarray, distortion: AnyDistortion
) -> np.ndarray:
    """float32 [h, w]: values of a photograph's pixels where an ideal pinhole sees them, else 0."""
    lens = tuple(map(float, intrinsics))
    row, column, inside = _source_pixels(lens, distortion, values.shape, lens, values.shape)
    return _bilinear(values, row, column) * inside


def _bilinear(channel: np.ndarray, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """float32 values of one channel at array positions inside it."""
    from scipy import ndimage  # takes a quarter of a second

    places = np.stack([row, column])
    return ndimage.map_coordinates(channel, places, np.float32, order=1, mode="nearest")


@functools.lru_cache(maxsize=4)  # frames of one camera share it
@np.errstate(over="ignore", invalid="ignore", divide="ignore")  # beyond what a lens can show
def _source_pixels(
    intrinsics: tuple[float, ...],
    distortion: AnyDistortion,
    source: tuple[int, int],
    ideal: tuple[float, ...],
    size: tuple[int, int],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Array positions (row, column) float32 in the photograph of each ideal pixel of `size`.

    The third array says which lie inside it; the others are moved to its edge.
    """
    (height, width), (fx, fy, cx, cy) = source, intrinsics
    down, across = np.meshgrid(np.arange(size[0]) + 0.5, np.arange(size[1]) + 0.5, indexing="ij")
    x, y = (across - ideal[2]) / ideal[0], (down - ideal[3]) / ideal[1]
    squared = x * x + y * y
    u, v = distortion.apply(x, y)
    row, column = fy * v + cy - 0.5, fx * u + cx - 0.5
    inside = (row >= -0.5) & (row <= height - 0.5) & (column >= -0.5) & (column <= width - 0.5)
    inside &= squared < fold_radius(distortion, float(np.sqrt(squared.max()))) ** 2
    return (
        np.clip(np.nan_to_num(row), 0, height - 1).astype(np.float32),
        np.clip(np.nan_to_num(column), 0, width - 1).astype(np.float32),
        inside,
    )


def fold_radius(distortion: AnyDistortion, limit: float) -> float:
    """Radius on the plane z = 1 from which points no longer move outwards, below `limit`; or inf.

    Beyond it a polynomial would show a part of the photograph a second time.
    """
    radius = np.linspace(0.0, limit, FOLD_STEPS + 1)
    angle = np.arange(FOLD_DIRECTIONS)[:, None] * (2 * np.pi / FOLD_DIRECTIONS)
    u, v = distortion.apply(radius * np.cos(angle), radius * np.sin(angle))
    outwards = np.diff(u * np.cos(angle) + v * np.sin(angle)) > 0
    folds = np.flatnonzero(~outwards.all(axis=0))
    return float(radius[folds[0]]) if folds.size else np.inf
