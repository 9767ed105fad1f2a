"""Exact depth of ellipsoids, whose distance to any point is known well enough."""

import numpy as np

from tttlrm_jax.core.geometry.poses import look_at
from tttlrm_jax.mesh import DepthView
from tttlrm_jax.mesh.rendering import sphere_cameras

VIEWS, SIZE = 12, 48  # one shape of arrays for all tests: one compiled program


def ball_views(centre=(0, 0, 0), radii=(1, 1, 1), above: bool = False) -> list[DepthView]:
    """What cameras on a sphere around an ellipsoid see of it, coloured by its normals."""
    centre, radii = np.asarray(centre, np.float64), np.asarray(radii, np.float64)
    cameras = sphere_cameras(VIEWS, SIZE)
    views = []
    for pose, lens in zip(cameras.world_from_camera, cameras.intrinsics, strict=True):
        place = 0.95 * radii.max() * pose[:3, 3]
        if above:
            place[2] = abs(place[2]) + 0.5 * radii.max()
        pose = look_at(centre + place, centre, np.array([0.0, 0.0, 1.0]))
        views.append(_seen(pose, lens, centre, radii))
    return views


def ellipsoid_distance(points: np.ndarray, centre, radii) -> np.ndarray:
    """Distances [point] to first order: exact for balls, and near the surface of others."""
    local = (points - np.asarray(centre)) / radii
    length = np.linalg.norm(local, axis=1)
    return np.abs(length - 1) * length / np.linalg.norm(local / radii, axis=1)


def normal_colours(points: np.ndarray, centre, radii) -> np.ndarray:
    """float [point, 3] in 0..255 of directions from the centre."""
    local = (points - np.asarray(centre)) / radii
    return 127.5 * (1 + local / np.linalg.norm(local, axis=-1, keepdims=True))


def _seen(pose: np.ndarray, lens: np.ndarray, centre, radii) -> DepthView:
    column, row = np.meshgrid(np.arange(SIZE) + 0.5, np.arange(SIZE) + 0.5)
    fx, fy, cx, cy = lens
    rays = np.stack([(column - cx) / fx, (row - cy) / fy, np.ones_like(row)], axis=-1)
    direction = rays @ pose[:3, :3].T / radii
    origin = (pose[:3, 3] - centre) / radii
    a, b, c = (direction**2).sum(-1), direction @ origin, origin @ origin - 1
    with np.errstate(invalid="ignore"):
        depth = (-b - np.sqrt(b * b - a * c)) / a
    met = np.isfinite(depth)
    points = pose[:3, 3] + np.where(met, depth, 1)[..., None] * (rays @ pose[:3, :3].T)
    colour = np.where(met[..., None], normal_colours(points, centre, radii), 0)
    return DepthView(
        depth=np.where(met, depth, np.inf).astype(np.float32),
        colour=colour.round().astype(np.uint8), world_from_camera=pose, intrinsics=lens,
    )  # fmt: skip
