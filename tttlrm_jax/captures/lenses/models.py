"""The camera models of COLMAP 4: where points appear, by name and number.

A model is a function of (x, y) on the plane z = 1 and of its coefficients; what it gives, times
the focal lengths and plus the centre, are pixels. Fisheye models work on theta = atan(r), the
angle from the axis. Names, numbers and orders of parameters are those of COLMAP's camera files.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

Points = tuple[np.ndarray, np.ndarray]
EQUIRECTANGULAR = "EQUIRECTANGULAR"  # no such function: it sees behind the camera
PANORAMA_REMEDY = (
    "a panorama is no picture of a pinhole: cut it into perspective views first (python -m "
    "tttlrm_jax.captures.cut_panoramas CAPTURE DEST)"
)
SMALL = 1e-12  # below it a quotient is replaced by its limit


@dataclasses.dataclass(frozen=True)
class LensModel:
    """A row of the table: `parameters` in COLMAP's order, and the function of those behind cx, cy.

    Without function the model cannot be undistorted.
    """

    number: int  # in COLMAP's binary files
    parameters: tuple[str, ...]
    distort: Callable[..., Points] | None

    @property
    def num_focal(self) -> int:
        """Focal lengths: 1 for both axes, or 2."""
        return 1 if self.parameters[0] == "f" else 2

    @property
    def coefficients(self) -> tuple[str, ...]:
        """Names of the parameters behind the principal point."""
        return self.parameters[self.num_focal + 2 :]


@dataclasses.dataclass(frozen=True)
class ModelDistortion:
    """The distortion of one camera, by its model's name in `LENS_MODELS`."""

    model: str
    coefficients: tuple[float, ...] = ()

    def __bool__(self) -> bool:
        """Whether it is none of an ideal pinhole."""
        known = self.model not in NEUTRAL
        return known or any(self.coefficients[: NEUTRAL[self.model]])

    def apply(self, x: np.ndarray, y: np.ndarray) -> Points:
        """Where ideal points on the plane z = 1 appear; NaN where the model has no image."""
        distort = LENS_MODELS[self.model].distort
        assert distort is not None
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            return distort(np.asarray(x, np.float64), np.asarray(y, np.float64), *self.coefficients)


def _pinhole(x, y) -> Points:
    return x, y


def _polynomial(squared, *k):
    """1 + k[0] s + k[1] s^2 + ... of s = squared."""
    total = np.zeros_like(squared)
    for coefficient in reversed(k):
        total = squared * (coefficient + total)
    return 1 + total


def _radial(x, y, *k) -> Points:
    scale = _polynomial(x * x + y * y, *k)
    return x * scale, y * scale


def _tangential(x, y, p1, p2) -> Points:
    """What decentring adds (Brown 1966)."""
    squared = x * x + y * y
    return (
        2 * p1 * x * y + p2 * (squared + 2 * x * x),
        2 * p2 * x * y + p1 * (squared + 2 * y * y),
    )


def _opencv(x, y, k1, k2, p1, p2) -> Points:
    (u, v), (across, down) = _radial(x, y, k1, k2), _tangential(x, y, p1, p2)
    return u + across, v + down


def _full_opencv(x, y, k1, k2, p1, p2, k3, k4, k5, k6) -> Points:
    squared = x * x + y * y
    scale = _polynomial(squared, k1, k2, k3) / _polynomial(squared, k4, k5, k6)
    across, down = _tangential(x, y, p1, p2)
    return x * scale + across, y * scale + down


def _over_radius(values, radius, limit=1.0):
    """values / radius, and `limit` on the axis."""
    near = radius < SMALL
    return np.where(near, limit, values / np.where(near, 1.0, radius))


def _equidistant(x, y) -> Points:
    """The direction times theta."""
    radius = np.hypot(x, y)
    scale = _over_radius(np.arctan(radius), radius)
    return x * scale, y * scale


def _fisheye(x, y, *k) -> Points:
    return _radial(*_equidistant(x, y), *k)


def _thin_prism_fisheye(x, y, k1, k2, p1, p2, k3, k4, sx1, sy1) -> Points:
    x, y = _equidistant(x, y)
    (u, v), (across, down) = _radial(x, y, k1, k2, k3, k4), _tangential(x, y, p1, p2)
    squared = x * x + y * y
    return u + across + sx1 * squared, v + down + sy1 * squared


def _rad_tan_thin_prism_fisheye(x, y, *values) -> Points:
    """Project Aria's Fisheye624: tangential and prism terms act on what the radial ones gave."""
    (p0, p1), (s0, s1, s2, s3) = values[6:8], values[8:]
    u, v = _radial(*_equidistant(x, y), *values[:6])
    squared = u * u + v * v
    across, down = _tangential(u, v, p1, p0)
    return (
        u + across + squared * (s0 + s1 * squared),
        v + down + squared * (s2 + s3 * squared),
    )


def _field_of_view(x, y, omega) -> Points:
    """Devernay and Faugeras 2001."""
    radius, tangent = np.hypot(x, y), 2 * np.tan(0.5 * omega)
    if abs(omega) < 1e-6:
        return x, y
    scale = _over_radius(np.arctan(radius * tangent), radius, tangent) / omega
    return x * scale, y * scale


def _division(x, y, k) -> Points:
    """Fitzgibbon 2001: the ideal point is the seen one over 1 + k r^2; here its inverse."""
    scale = 2 / (1 + np.sqrt(1 - 4 * k * (x * x + y * y)))
    return x * scale, y * scale


def _eucm(x, y, alpha, beta) -> Points:
    """The enhanced unified camera model (Khomutenko and others 2016)."""
    depth = alpha * np.sqrt(beta * (x * x + y * y) + 1) + 1 - alpha
    depth = np.where(depth > 0, depth, np.nan)
    return x / depth, y / depth


_ONE, _TWO = ("f", "cx", "cy"), ("fx", "fy", "cx", "cy")
_K4 = ("k1", "k2", "k3", "k4")
_ARIA = ("k0", "k1", "k2", "k3", "k4", "k5", "p0", "p1", "s0", "s1", "s2", "s3")

LENS_MODELS = {
    "SIMPLE_PINHOLE": LensModel(0, _ONE, _pinhole),
    "PINHOLE": LensModel(1, _TWO, _pinhole),
    "SIMPLE_RADIAL": LensModel(2, (*_ONE, "k"), _radial),
    "RADIAL": LensModel(3, (*_ONE, "k1", "k2"), _radial),
    "OPENCV": LensModel(4, (*_TWO, "k1", "k2", "p1", "p2"), _opencv),
    "OPENCV_FISHEYE": LensModel(5, (*_TWO, *_K4), _fisheye),
    "FULL_OPENCV": LensModel(
        6, (*_TWO, "k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6"), _full_opencv
    ),
    "FOV": LensModel(7, (*_TWO, "omega"), _field_of_view),
    "SIMPLE_RADIAL_FISHEYE": LensModel(8, (*_ONE, "k"), _fisheye),
    "RADIAL_FISHEYE": LensModel(9, (*_ONE, "k1", "k2"), _fisheye),
    "THIN_PRISM_FISHEYE": LensModel(
        10, (*_TWO, "k1", "k2", "p1", "p2", "k3", "k4", "sx1", "sy1"), _thin_prism_fisheye
    ),
    "RAD_TAN_THIN_PRISM_FISHEYE": LensModel(11, (*_TWO, *_ARIA), _rad_tan_thin_prism_fisheye),
    "SIMPLE_DIVISION": LensModel(12, (*_ONE, "k"), _division),
    "DIVISION": LensModel(13, (*_TWO, "k"), _division),
    "SIMPLE_FISHEYE": LensModel(14, _ONE, _equidistant),
    "FISHEYE": LensModel(15, _TWO, _equidistant),
    "EUCM": LensModel(16, (*_TWO, "alpha", "beta"), _eucm),
    EQUIRECTANGULAR: LensModel(17, ("w", "h"), None),
}
MODEL_OF_NUMBER = {model.number: name for name, model in LENS_MODELS.items()}
READABLE = tuple(name for name, model in LENS_MODELS.items() if model.distort is not None)
# models that are a pinhole where so many of their first coefficients are all 0
NEUTRAL = {
    name: len(model.coefficients)
    for name, model in LENS_MODELS.items()
    if model.distort in (_pinhole, _radial, _opencv, _full_opencv, _field_of_view, _division)
} | {"EUCM": 1}
PANORAMA = ModelDistortion(EQUIRECTANGULAR)  # has no pinhole; frames of it have no intrinsics
