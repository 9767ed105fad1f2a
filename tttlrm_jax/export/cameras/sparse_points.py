"""Triangulated points beside cameras: positions, colours, and where pictures saw them."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tttlrm_jax.captures.camera_files import Frame
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.geometry.poses import rigid_inverse
from tttlrm_jax.export.ply import TYPES, ply_header

COLOURS = ("red", "green", "blue")
FAR = 1e4  # from here on float32 has steps of a thousandth and more
UNKNOWN_ERROR = -1.0  # as COLMAP says it of points without observations


@dataclasses.dataclass(frozen=True, eq=False)
class Tracks:
    """Observations: which point, in which view (both from 0), at which pixel (centres at +0.5)."""

    point: np.ndarray  # int [observation]
    view: np.ndarray  # int [observation]
    pixel: np.ndarray  # float64 [observation, 2], x and y


@dataclasses.dataclass(frozen=True, eq=False)
class SparsePoints:
    """Points in the world of the cameras."""

    xyz: np.ndarray  # float64 [point, 3]
    rgb: np.ndarray  # uint8 [point, 3]
    tracks: Tracks | None = None

    @classmethod
    def of(cls, points: "tuple[np.ndarray, np.ndarray] | SparsePoints", views: int):
        """Checked for so many views; raises InputError for arrays that do not fit together."""
        found = points if isinstance(points, SparsePoints) else cls(*points)
        xyz, rgb = np.asarray(found.xyz, np.float64), np.asarray(found.rgb)
        if xyz.ndim != 2 or xyz.shape[1] != 3 or rgb.shape != xyz.shape or rgb.dtype != np.uint8:
            raise InputError.of(
                "points", f"{xyz.shape}, {rgb.dtype} {rgb.shape}",
                "are not positions [point, 3] and colours uint8 [point, 3]", "correct them",
            )  # fmt: skip
        if not np.isfinite(xyz).all():
            raise InputError("points have positions that are not finite; leave them out")
        tracks = found.tracks
        if tracks is not None and len(tracks.point):
            least = min(tracks.point.min(), tracks.view.min())
            if least < 0 or tracks.point.max() >= len(xyz) or tracks.view.max() >= views:
                raise InputError("points have tracks of points or views that are not there")
        return cls(xyz, rgb, tracks)

    def errors(self, frames: Sequence[Frame]) -> np.ndarray:
        """Mean distance in pixels float64 [point] of observations from where the point projects;
        `UNKNOWN_ERROR` of points without."""
        out, tracks = np.full(len(self.xyz), UNKNOWN_ERROR), self.tracks
        if tracks is None or not len(tracks.point):
            return out
        distance = np.empty(len(tracks.point))
        for view, frame in enumerate(frames):
            mine = np.flatnonzero(tracks.view == view)
            seen = project(frame, self.xyz[tracks.point[mine]])
            distance[mine] = np.linalg.norm(seen - tracks.pixel[mine], axis=-1)
        total = np.bincount(tracks.point, distance, len(self.xyz))
        count = np.bincount(tracks.point, minlength=len(self.xyz))
        return np.where(count > 0, total / np.maximum(count, 1), out)


def project(frame: Frame, points: np.ndarray) -> np.ndarray:
    """Pixels float64 [point, 2] at which a frame's lens shows points [point, 3] of the world."""
    pose = rigid_inverse(frame.world_from_camera)
    x, y, z = (points @ pose[:3, :3].T + pose[:3, 3]).T
    with np.errstate(divide="ignore", invalid="ignore"):
        u, v = frame.distortion.apply(x / z, y / z)
    fx, fy, cx, cy = frame.intrinsics
    return np.stack([fx * u + cx, fy * v + cy], axis=-1)


def write_points_ply(path: Path, points: SparsePoints) -> None:
    """As PLY, as nerfstudio reads it: positions as float, or double where float would blur them,
    and uchar colours."""
    kind = "float" if np.abs(points.xyz).max(initial=0.0) < FAR else "double"
    columns = [*((name, kind) for name in "xyz"), *((name, "uchar") for name in COLOURS)]
    table = np.empty(len(points.xyz), [(name, "<" + TYPES[kind]) for name, kind in columns])
    values = zip(table.dtype.names or (), (*points.xyz.T, *points.rgb.T), strict=True)
    for name, column in values:
        table[name] = column
    path.write_bytes(ply_header(columns, len(table)) + table.tobytes())
