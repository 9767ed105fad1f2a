"""Recordings of the rasterizer's stages: spherical harmonics, covariance, projection.

Each file is checked in float32, within the tolerances that the recordings' page derives, and in
float64, where only the storage and the summation order separate two correct programs.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tttlrm_jax.config import RasterConfig
from tttlrm_jax.core.geometry.rotations import rotation_from_quaternion
from tttlrm_jax.core.geometry.spherical_harmonics import evaluate_sh
from tttlrm_jax.core.types import Splats
from tttlrm_jax.parity.recording import Recording, Variant, in_both_precisions, quick_jit
from tttlrm_jax.parity.report import Row, over
from tttlrm_jax.rasterize import project

FLOAT64 = 1e-11  # the recordings' page: about 1e-12
FLOAT32_STORED = 2e-7  # rounding a float64 result to float32
SH = {"fp32": 5e-6, "fp64": FLOAT64}
COVARIANCE = {"fp32": 5e-6, "fp64": FLOAT64}
CENTRE = {"fp32": (1e-5, 1e-4), "fp64": (FLOAT64, FLOAT64)}  # relative, px
DEPTH = {"fp32": 1e-5, "fp64": FLOAT64}
CONIC = {"fp32": 5e-5, "fp64": FLOAT64}
SCREEN_COVARIANCE = {"fp32": 5e-6, "fp64": FLOAT64}
# The page allows 1e-2 for float32 compensations and conics of needles, whose determinant cancels
# in the reference (in float64 to 1e-10); ours is a sum of squares.
COMPENSATION = {"fp32": 1e-5, "fp64": 1e-9}
GRADIENT = {"fp32": 2e-4, "fp64": 1e-10}  # needles lose a digit more
GRADIENT_FLOOR = 1e-6  # of the largest row norm: where a row's gradient is zero up to rounding
REFERENCE_TILE = 16


by_precision = in_both_precisions("{variant.name}/{}")


@by_precision
def check_spherical_harmonics(recording: Recording, variant: Variant) -> Iterator[Row]:
    """Plain sums of degree 0 to 4 and their gradients."""
    direction, coefficients, bar = arrays(recording, variant, "dirs", "coeffs", "v_colors")
    for degree in range(5):
        used = coefficients[:, : (degree + 1) ** 2]
        colour, grads = _value_and_gradients(evaluate_sh, (used, direction), bar)
        yield recording.compare(f"colors_deg{degree}", colour, SH[variant.name], "abs")
        for key, value in zip(("coeffs", "dirs"), grads, strict=True):
            yield _per_row(recording, f"grad_{key}_deg{degree}", value, GRADIENT[variant.name])


@by_precision
def check_covariance(recording: Recording, variant: Variant) -> Iterator[Row]:
    """Rotation matrices, covariances, precisions and gradients of quaternions and scales."""
    quaternion, scale = arrays(recording, variant, "quats", "scales")
    tolerance = COVARIANCE[variant.name]
    rotation = quick_jit(rotation_from_quaternion)(quaternion)
    yield recording.compare("rotmats", rotation, tolerance)
    for key, power in (("covars", 2), ("precis", -2)):
        (bar,) = arrays(recording, variant, f"v_{key}")
        matrix, grads = _value_and_gradients(_spread(power), (quaternion, scale), bar)
        yield _per_entry(recording, key, matrix, tolerance)
        if key == "covars":
            triu = np.asarray(matrix)[:, *np.triu_indices(3)]
            yield _per_entry(recording, "covars_triu", triu, tolerance)
        for field, value in zip(("quats", "scales"), grads, strict=True):
            # Equal scales leave a zero gradient: measured against the upstream one, too.
            floor = _row_norms(recording[f"v_{key}"]) * _row_norms(recording[key])
            floor = floor / _row_norms(recording[field]) if field == "quats" else 0 * floor
            quantity = f"grad_{field}_from_{key}"
            yield _per_row(recording, quantity, value, GRADIENT[variant.name], floor)


@by_precision
def check_projection(recording: Recording, variant: Variant) -> Iterator[Row]:
    """Culling, radii, screen values and gradients, camera by camera."""
    projected, grads = _project_all(recording, variant)
    exact = {
        "valid": projected.visible,
        "radii": projected.radius,
        "radii_opacity_aware": projected.radius_opacity_aware,
        "tiles_per_gauss": _tiles_per_gaussian(projected, recording),
    }
    yield from recording.compare_all(exact, measure="exact")
    yield from screen_rows(recording, variant, "", projected)
    tolerance = SCREEN_COVARIANCE[variant.name]
    yield _per_entry(recording, "cov2d", projected.covariance, tolerance, row_axes=2)
    for key, value in grads.items():
        of_camera = key in ("viewmats", "intrinsics")
        judged = recording.compare if of_camera else functools.partial(_per_row, recording)
        yield judged(f"grad_{key}", value, GRADIENT[variant.name])


@functools.partial(quick_jit, static_argnums=0)
def _value_and_gradients(function: Callable, arguments: tuple, bar):
    value, pullback = jax.vjp(function, *arguments)
    return value, pullback(bar)


def _spread(power: int) -> Callable:
    """(quaternion, scale) -> R diag(scale^power) R^T."""

    def matrix(quaternion, scale):
        rotation = rotation_from_quaternion(quaternion)
        scaled = rotation * (scale**power)[:, None, :]
        return jnp.sum(scaled[:, :, None, :] * rotation[:, None, :, :], axis=-1)

    return matrix


def _project_all(recording: Recording, variant: Variant):
    """(projection with a leading camera axis, gradients by recorded name)."""
    config = raster_config(recording, max_alpha=RasterConfig().max_alpha, backend="reference")
    shape = image_shape(recording)
    cloud = arrays(recording, variant, "means", "quats", "scales", "opacities")
    splats = Splats(*cloud, features=jnp.zeros((len(cloud[0]), 1), variant.dtype))

    @quick_jit
    def one_camera(splats, viewmat, intrinsics, bars):
        def screen(splats, viewmat, intrinsics):
            p = project(splats, viewmat, intrinsics, *shape, config)
            return (p.mean, p.depth, p.conic), p

        _, pullback, projected = jax.vjp(screen, splats, viewmat, intrinsics, has_aux=True)
        return projected, pullback(bars)

    upstream = arrays(recording, variant, "v_means2d", "v_depths", "v_conics")
    results = [
        one_camera(splats, *camera, tuple(bars))
        for camera, *bars in zip(cameras(recording, variant), *upstream, strict=True)
    ]
    projected, grads = zip(*results, strict=True)
    return stacked(projected), gradients_by_name(grads)


def gradients_by_name(grads) -> dict:
    """By recorded name, from [camera] of (cloud, viewmat, intrinsics): the cloud's are added up."""
    clouds, viewmats, intrinsics = zip(*grads, strict=True)
    splats = jax.tree.map(lambda *x: np.sum(x, axis=0), *clouds)
    return {
        "means": splats.mean,
        "quats": splats.quaternion,
        "scales": splats.scale,
        "viewmats": np.stack(viewmats),
        "intrinsics": np.stack(intrinsics),
    }


def screen_rows(recording: Recording, variant: Variant, prefix: str, projected) -> Iterator[Row]:
    """Rows of the values that `mid_*` and the projection's recording share."""
    name = variant.name
    stored = FLOAT32_STORED if prefix and name == "fp64" else 0.0
    mean = recording[f"{prefix}means2d"].astype(np.float64)
    relative, absolute = CENTRE[name]
    error = np.abs(projected.mean - mean) / (absolute + (relative + stored) * np.abs(mean))
    quantity = f"{prefix}means2d (in tolerances)"
    yield recording.row(quantity, error.max(initial=0), 1.0, "abs")
    tolerance = DEPTH[name] + stored * np.abs(recording[f"{prefix}depths"]).max(initial=0)
    yield recording.compare(f"{prefix}depths", projected.depth, tolerance, "abs")
    tolerance = CONIC[name] + stored
    yield _per_entry(recording, f"{prefix}conics", projected.conic, tolerance, row_axes=2)
    thinned = {f"{prefix}compensations": projected.compensation}
    yield from recording.compare_all(thinned, COMPENSATION[name] + stored, "abs", optional=True)


def _tiles_per_gaussian(projected, recording: Recording) -> np.ndarray:
    """Number of 16x16 tiles each box meets, from `radius`."""
    limit = -(-np.array(image_shape(recording)[::-1]) // REFERENCE_TILE)
    mean, radius = projected.mean.astype(np.float64), projected.radius
    first = np.clip(np.floor((mean - radius) / REFERENCE_TILE), 0, limit)
    last = np.clip(np.ceil((mean + radius) / REFERENCE_TILE), 0, limit)
    return np.where(projected.visible, np.prod(last - first, axis=-1), 0).astype(np.int32)


# ---- shared with the raster recordings ---------------------------------------------------------


def raster_config(recording: Recording, max_alpha: float, backend) -> RasterConfig:
    """Configuration of a recording; projections carry no compositing thresholds."""
    optional = {
        "min_alpha": "alpha_threshold",
        "min_transmittance": "transmittance_threshold",
        "antialiased": "antialiased",
    }
    return RasterConfig(
        max_alpha=float(max_alpha),
        eps2d=float(recording["eps2d"]),
        near=float(recording["near_plane"]),
        far=float(recording["far_plane"]),
        backend=backend,
        **{name: recording[key].item() for name, key in optional.items() if key in recording},
    )


def image_shape(recording: Recording) -> tuple[int, int]:
    """Height and width."""
    return int(recording["height"]), int(recording["width"])


def arrays(recording: Recording, variant: Variant, *keys: str) -> list[Any]:
    """Recorded arrays in a precision; NumPy's, whose slices need no compiling."""
    return [np.asarray(recording[key], variant.dtype) for key in keys]


def cameras(recording: Recording, variant: Variant) -> list[tuple[np.ndarray, np.ndarray]]:
    """[camera] of ([4, 4] camera from world, [4] intrinsics)."""
    viewmats, k = arrays(recording, variant, "viewmats", "Ks")
    intrinsics = np.stack([k[:, 0, 0], k[:, 1, 1], k[:, 0, 2], k[:, 1, 2]], axis=-1)
    return list(zip(viewmats, intrinsics, strict=True))


def stacked(trees):
    """Trees of one structure as one, with a leading axis."""
    return jax.tree.map(lambda *x: np.stack(x), *trees)


def _row_norms(array) -> np.ndarray:
    return np.linalg.norm(np.asarray(array, np.float64).reshape(len(array), -1), axis=1)


def _per_row(recording: Recording, quantity: str, actual, tolerance, floor: Any = 0.0) -> Row:
    """Largest error of a row (along the first axis) relative to the row's own norm.

    `floor` [row] adds to the norm, as does a fraction of the largest norm: both for rows that are
    zero up to rounding.
    """

    def error(gap, expected):
        norm = _row_norms(expected)
        return over(_row_norms(gap), norm + floor + GRADIENT_FLOOR * norm.max()).max()

    return recording.compare(quantity, actual, tolerance, "row", error=error)


def _per_entry(recording: Recording, quantity: str, actual, tolerance, row_axes: int = 1) -> Row:
    """Largest error of an entry relative to the largest entry of its row (over `row_axes` axes)."""

    def error(gap, expected):
        axes = tuple(range(row_axes, gap.ndim))
        return over(gap.max(axis=axes), np.abs(expected).max(axis=axes)).max()

    return recording.compare(quantity, actual, tolerance, "entry", error=error)
