"""Trajectories as text in TUM's form: `time tx ty tz qx qy qz qw`, one line per frame."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from tttlrm_jax.core.geometry.rotations import quaternion_from_rotation


class TrajectoryFile:
    """A file to which poses are added; every line is on disk when `add` returns."""

    def __init__(self, path: Path):
        self._file = path.open("w", encoding="ascii", buffering=1)
        self._file.write("# time tx ty tz qx qy qz qw (camera to world, OpenCV axes)\n")

    def add(self, time: float, world_from_camera: np.ndarray) -> None:
        self._file.write(tum_line(time, world_from_camera) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def write_trajectory(
    path: Path, times: Iterable[float], world_from_camera: Iterable[np.ndarray]
) -> None:
    """A whole trajectory at once: poses [4, 4] and their times in seconds, or their numbers."""
    file = TrajectoryFile(path)
    for time, pose in zip(times, world_from_camera, strict=True):
        file.add(time, pose)
    file.close()


def tum_line(time: float, world_from_camera: np.ndarray) -> str:
    """One pose [4, 4] as text; a pose that is not finite becomes NaN throughout."""
    if not np.isfinite(world_from_camera).all():
        return f"{time:.6f} " + " ".join(["nan"] * 7)
    w, x, y, z = quaternion_from_rotation(world_from_camera[:3, :3])
    place = world_from_camera[:3, 3]
    digits = 9 if np.abs(place).max() < 1000 else 15  # coordinates of a map keep their millimetres
    words = [f"{value:.{digits}g}" for value in place] + [f"{value:.9g}" for value in (x, y, z, w)]
    return " ".join([f"{time:.6f}", *words])
