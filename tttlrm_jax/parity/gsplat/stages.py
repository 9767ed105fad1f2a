"""Recordings of the rasterizer's stages: spherical harmonics, covariance, projection.

Each file is checked in float32, within the tolerances that the recordings' page derives, and in
float64, where only the storage and the summation order separate two correct programs.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tttlrm_jax.config import RasterConfig
from tttlrm_jax.core.geometry.rotations import rotation_from_quaternion
from tttlrm_jax.core.geometry.spherical_harmonics import evaluate_sh
from tttlrm_jax.core.types import Splats
from tttlrm_jax.parity.recording import quick_jit
from tttlrm_jax.parity.report import Row, compare, row
from tttlrm_jax.rasterize import project

DTYPES = {"fp32": np.float32, "fp64": np.float64}
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


def check_spherical_harmonics(path: Path) -> Iterator[Row]:
    """Plain sums of degree 0 to 4 and their gradients."""
    recording = dict(np.load(path))
    for name, dtype in DTYPES.items():
        direction, coefficients, bar = (
            jnp.asarray(recording[key], dtype) for key in ("dirs", "coeffs", "v_colors")
        )
        for degree in range(5):
            used = coefficients[:, : (degree + 1) ** 2]
            colour, pullback = jax.vjp(evaluate_sh, used, direction)
            grads = dict(zip(("coeffs", "dirs"), pullback(bar), strict=True))
            expected = recording[f"colors_deg{degree}"]
            yield compare(path, f"{name}/colors_deg{degree}", colour, expected, SH[name], "abs")
            for key, value in grads.items():
                expected = recording[f"grad_{key}_deg{degree}"]
                quantity = f"{name}/grad_{key}_deg{degree}"
                yield per_row(path, quantity, value, expected, GRADIENT[name])


def check_covariance(path: Path) -> Iterator[Row]:
    """Rotation matrices, covariances, precisions and gradients of quaternions and scales."""
    recording = dict(np.load(path))
    upper = np.triu_indices(3)
    for name, dtype in DTYPES.items():
        quaternion, scale = (jnp.asarray(recording[key], dtype) for key in ("quats", "scales"))
        rotation = rotation_from_quaternion(quaternion)
        yield compare(path, f"{name}/rotmats", rotation, recording["rotmats"], COVARIANCE[name])
        for key, power in (("covars", 2), ("precis", -2)):
            function = _spread(power)
            matrix, pullback = jax.vjp(function, quaternion, scale)
            yield per_entry(path, f"{name}/{key}", matrix, recording[key], COVARIANCE[name])
            if key == "covars":
                triu = np.asarray(matrix)[:, upper[0], upper[1]]
                expected = recording["covars_triu"]
                yield per_entry(path, f"{name}/covars_triu", triu, expected, COVARIANCE[name])
            grads = pullback(jnp.asarray(recording[f"v_{key}"], dtype))
            for field, value in zip(("quats", "scales"), grads, strict=True):
                quantity = f"grad_{field}_from_{key}"
                # Equal scales leave a zero gradient: measured against the upstream one, too.
                floor = _row_norms(recording[f"v_{key}"]) * _row_norms(recording[key])
                floor = floor / _row_norms(recording[field]) if field == "quats" else 0 * floor
                yield per_row(
                    path, f"{name}/{quantity}", value, recording[quantity], GRADIENT[name], floor
                )


def check_projection(path: Path) -> Iterator[Row]:
    """Culling, radii, screen values and gradients, camera by camera."""
    recording = dict(np.load(path))
    for name, dtype in DTYPES.items():
        projected, grads = _project_all(recording, dtype)
        exact = {
            "valid": projected.visible,
            "radii": projected.radius,
            "radii_opacity_aware": projected.radius_opacity_aware,
            "tiles_per_gauss": _tiles_per_gaussian(projected, recording),
        }
        for key, value in exact.items():
            yield compare(path, f"{name}/{key}", value, recording[key], 0.0, "exact")
        yield from screen_rows(path, name, "", projected, recording)
        cov2d = recording["cov2d"]
        yield per_entry(
            path, f"{name}/cov2d", projected.covariance, cov2d, SCREEN_COVARIANCE[name], row_axes=2
        )
        for key, value in grads.items():
            expected = recording[f"grad_{key}"]
            if key in ("viewmats", "intrinsics"):
                yield compare(path, f"{name}/grad_{key}", value, expected, GRADIENT[name])
            else:
                yield per_row(path, f"{name}/grad_{key}", value, expected, GRADIENT[name])


def _spread(power: int) -> Callable:
    """(quaternion, scale) -> R diag(scale^power) R^T."""

    def matrix(quaternion, scale):
        rotation = rotation_from_quaternion(quaternion)
        scaled = rotation * (scale**power)[:, None, :]
        return jnp.sum(scaled[:, :, None, :] * rotation[:, None, :, :], axis=-1)

    return matrix


def _project_all(recording, dtype):
    """(projection with a leading camera axis, gradients by recorded name)."""
    count = len(recording["means"])
    config = raster_config(recording, max_alpha=RasterConfig().max_alpha, backend="reference")
    height, width = int(recording["height"]), int(recording["width"])
    splats = Splats(
        *(jnp.asarray(recording[key], dtype) for key in ("means", "quats", "scales", "opacities")),
        features=jnp.zeros((count, 1), dtype),
    )

    @quick_jit
    def one_camera(splats, viewmat, intrinsics, bars):
        def screen(splats, viewmat, intrinsics):
            p = project(splats, viewmat, intrinsics, height, width, config)
            return (p.mean, p.depth, p.conic), p

        _, pullback, projected = jax.vjp(screen, splats, viewmat, intrinsics, has_aux=True)
        return projected, pullback(bars)

    results = [
        one_camera(splats, viewmat, k, bars)
        for viewmat, k, *bars in zip(
            *camera_arrays(recording, dtype),
            *(jnp.asarray(recording[f"v_{key}"], dtype) for key in ("means2d", "depths", "conics")),
            strict=True,
        )
        for bars in [tuple(bars)]
    ]
    projected = jax.tree.map(lambda *x: np.stack(x), *(p for p, _ in results))
    splat_grads = jax.tree.map(lambda *x: np.sum(x, axis=0), *(g[0] for _, g in results))
    grads = {
        "means": splat_grads.mean,
        "quats": splat_grads.quaternion,
        "scales": splat_grads.scale,
        "viewmats": np.stack([g[1] for _, g in results]),
        "intrinsics": np.stack([g[2] for _, g in results]),
    }
    return projected, grads


def screen_rows(path, name, prefix, projected, recording) -> Iterator[Row]:
    """Rows of the values that `mid_*` and the projection's recording share."""
    mean = recording[f"{prefix}means2d"].astype(np.float64)
    stored = FLOAT32_STORED if prefix and name == "fp64" else 0.0
    relative, absolute = CENTRE[name]
    error = np.abs(projected.mean - mean) / (absolute + (relative + stored) * np.abs(mean))
    yield row(path, f"{name}/{prefix}means2d (in tolerances)", error.max(initial=0), 1.0, "abs")
    tolerance = DEPTH[name] + stored * np.abs(recording[f"{prefix}depths"]).max(initial=0)
    depth = recording[f"{prefix}depths"]
    yield compare(path, f"{name}/{prefix}depths", projected.depth, depth, tolerance, "abs")
    conic, tolerance = recording[f"{prefix}conics"], CONIC[name] + stored
    yield per_entry(path, f"{name}/{prefix}conics", projected.conic, conic, tolerance, row_axes=2)
    key = f"{prefix}compensations"
    if key in recording:
        tolerance = COMPENSATION[name] + stored
        yield compare(
            path, f"{name}/{key}", projected.compensation, recording[key], tolerance, "abs"
        )


def _tiles_per_gaussian(projected, recording) -> np.ndarray:
    """Number of 16x16 tiles each box meets, from `radius`."""
    size = np.array([int(recording["width"]), int(recording["height"])])
    limit = -(-size // REFERENCE_TILE)
    mean, radius = projected.mean.astype(np.float64), projected.radius
    first = np.clip(np.floor((mean - radius) / REFERENCE_TILE), 0, limit)
    last = np.clip(np.ceil((mean + radius) / REFERENCE_TILE), 0, limit)
    return np.where(projected.visible, np.prod(last - first, axis=-1), 0).astype(np.int32)


# ---- shared with the raster recordings ---------------------------------------------------------


def raster_config(recording, max_alpha: float, backend) -> RasterConfig:
    """Configuration of a recording; projections carry no compositing thresholds."""
    default = RasterConfig()
    return RasterConfig(
        max_alpha=float(max_alpha),
        min_alpha=float(recording.get("alpha_threshold", default.min_alpha)),
        min_transmittance=float(
            recording.get("transmittance_threshold", default.min_transmittance)
        ),
        eps2d=float(recording["eps2d"]),
        near=float(recording["near_plane"]),
        far=float(recording["far_plane"]),
        antialiased=bool(recording.get("antialiased", False)),
        backend=backend,
    )


def camera_arrays(recording, dtype):
    """([camera, 4, 4] camera from world, [camera, 4] intrinsics)."""
    k = recording["Ks"]
    intrinsics = np.stack([k[:, 0, 0], k[:, 1, 1], k[:, 0, 2], k[:, 1, 2]], axis=-1)
    return jnp.asarray(recording["viewmats"], dtype), jnp.asarray(intrinsics, dtype)


def _row_norms(array) -> np.ndarray:
    flat = np.asarray(array, np.float64).reshape(len(array), -1)
    return np.sqrt(np.sum(flat * flat, axis=1))


def per_row(path, quantity, actual, expected, tolerance, floor: Any = 0.0) -> Row:
    """Largest error of a row (along the first axis) relative to the row's own norm.

    `floor` [row] adds to the norm, as does a fraction of the largest norm: both for rows that are
    zero up to rounding.
    """
    if np.size(expected) == 0 or np.shape(actual) != np.shape(expected):
        return compare(path, quantity, actual, expected, tolerance, "row")
    norm = _row_norms(expected)
    scale = norm + floor + GRADIENT_FLOOR * norm.max()
    error = _row_norms(np.asarray(actual, np.float64) - expected) / np.where(scale > 0, scale, 1)
    return row(path, quantity, _worst(error), tolerance, "row")


def per_entry(path, quantity, actual, expected, tolerance, row_axes=1) -> Row:
    """Largest error of an entry relative to the largest entry of its row (over `row_axes` axes)."""
    if np.size(expected) == 0 or np.shape(actual) != np.shape(expected):
        return compare(path, quantity, actual, expected, tolerance, "entry")
    axes = tuple(range(row_axes, np.ndim(expected)))
    error = np.abs(np.asarray(actual, np.float64) - expected).max(axis=axes)
    scale = np.abs(np.asarray(expected, np.float64)).max(axis=axes)
    return row(path, quantity, _worst(error / np.where(scale > 0, scale, 1)), tolerance, "entry")


def _worst(error: np.ndarray) -> float:
    """The largest, or NaN if any is not finite."""
    return float(error.max()) if np.isfinite(error).all() else float("nan")
