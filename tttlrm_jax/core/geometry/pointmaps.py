"""Pointmaps [..., height, width, 3]: focal length, ray maps, depth to points.

float64 NumPy on the host. These follow the reference's pixel rule, which the published weights
were trained with: pixel (row i, column j) lies at the integer (j, i), not at the pixel's middle
as everywhere else in this package.
"""

import numpy as np

WEISZFELD_STEPS = 10
MIN_RESIDUAL = 1e-8  # pixels; keeps weights of exact fits finite


def weiszfeld_focal(points: np.ndarray, principal_point: np.ndarray | None = None) -> np.ndarray:
    """Focal lengths [*batch] in pixels of points [*batch, height, width, 3] in their own camera.

    Minimises sum |pixel - f xy / z| (DUSt3R eq. 6) by reweighted least squares, 10 steps, from
    the least-squares solution. `principal_point` [*batch, 2] (x, y) is the middle (width // 2,
    height // 2) by default. Ratios that are not finite count as 0.
    """
    pixel, ratio = _pixels_and_ratios(points, principal_point)
    cross, square = np.sum(ratio * pixel, axis=-1), np.sum(ratio * ratio, axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        focal = cross.mean(axis=-1) / square.mean(axis=-1)
        for _ in range(WEISZFELD_STEPS):
            residual = np.linalg.norm(pixel - focal[..., None, None] * ratio, axis=-1)
            weight = 1.0 / np.maximum(residual, MIN_RESIDUAL)
            focal = (weight * cross).mean(axis=-1) / (weight * square).mean(axis=-1)
    return focal


def median_focal(points: np.ndarray, principal_point: np.ndarray | None = None) -> np.ndarray:
    """Focal lengths [*batch]: the median over pixels and both axes of pixel z / xy."""
    pixel, _ = _pixels_and_ratios(points, principal_point)
    points = np.asarray(points, np.float64).reshape(*pixel.shape[:-1], 3)
    with np.errstate(divide="ignore", invalid="ignore"):
        votes = pixel * points[..., 2:] / points[..., :2]
    votes = np.sort(votes.reshape(*votes.shape[:-2], -1), axis=-1)  # NaN last
    count = np.sum(~np.isnan(votes), axis=-1, keepdims=True)
    middle = np.maximum((count - 1) // 2, 0)
    return np.take_along_axis(votes, middle, axis=-1)[..., 0]


def ray_map(
    world_from_first: np.ndarray,
    world_from_camera: np.ndarray,
    intrinsics: np.ndarray,
    height: int,
    width: int,
) -> np.ndarray:
    """Origin and direction [height, width, 6] of a camera's rays in the first camera's frame.

    `intrinsics` is a matrix [3, 3]. The reference normalises `R K^-1 (x, y, 1) + t`: the origin
    leaks into what it calls a direction, and the published weights expect it so.
    """
    pose = np.linalg.inv(np.asarray(world_from_first, np.float64)) @ world_from_camera
    column, row = np.meshgrid(np.arange(width), np.arange(height))
    pixel = np.stack([column, row, np.ones_like(row)], axis=-1).astype(np.float64)
    local = pixel @ np.linalg.inv(np.asarray(intrinsics, np.float64)).T
    reached = local @ pose[:3, :3].T + pose[:3, 3]
    direction = reached / np.linalg.norm(reached, axis=-1, keepdims=True)
    return np.concatenate([np.broadcast_to(pose[:3, 3], direction.shape), direction], axis=-1)


def unproject(depth: np.ndarray, intrinsics: np.ndarray, centre: float = 0.5) -> np.ndarray:
    """Points [*batch, height, width, 3] in the camera of z depth [*batch, height, width].

    `intrinsics` [4] are fx, fy, cx, cy; a pixel's place is its index plus `centre`.
    """
    height, width = depth.shape[-2:]
    fx, fy, cx, cy = np.asarray(intrinsics, np.float64)
    x = (np.arange(width) + centre - cx) / fx
    y = (np.arange(height) + centre - cy) / fy
    return np.stack([depth * x, depth * y[:, None], np.asarray(depth, np.float64)], axis=-1)


def _pixels_and_ratios(points, principal_point) -> tuple[np.ndarray, np.ndarray]:
    """Pixel offsets and xy / z, both [*batch, pixel, 2]."""
    points = np.asarray(points, np.float64)
    *batch, height, width, _ = points.shape
    if principal_point is None:
        principal_point = np.array([width // 2, height // 2], np.float64)
    column, row = np.meshgrid(np.arange(width), np.arange(height))
    grid = np.stack([column, row], axis=-1).astype(np.float64)
    pixel = grid - np.asarray(principal_point, np.float64)[..., None, None, :]
    pixel = np.broadcast_to(pixel, (*batch, height, width, 2)).reshape(*batch, -1, 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = points[..., :2] / points[..., 2:]
    ratio = np.where(np.isfinite(ratio), ratio, 0.0).reshape(*batch, -1, 2)
    return pixel, ratio
