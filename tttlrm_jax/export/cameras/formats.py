"""Cameras in the formats of other programs: `write_cameras`, and the table of what it writes.

The world is the capture's own: nothing is turned, moved or scaled. `captures` reads what is written
back to the same cameras; TUM's form has poses only.
"""

import dataclasses
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from tttlrm_jax.captures.camera_files import Frame
from tttlrm_jax.captures.pictures.images import image_size
from tttlrm_jax.captures.transforms_writer import write_transforms
from tttlrm_jax.core.errors import InputError, listed
from tttlrm_jax.core.geometry.poses import pose_problem, rigid_inverse
from tttlrm_jax.export.cameras.colmap import write_colmap
from tttlrm_jax.export.cameras.sparse_points import SparsePoints, write_points_ply
from tttlrm_jax.export.trajectories import write_trajectory

TRANSFORMS_FILE, OPENCV_FILE = "transforms.json", "opencv_cameras.json"
POINTS_FILE, TUM_FILE = "sparse_points.ply", "trajectory_tum.txt"
COLMAP_FOLDER, COLMAP_TEXT_FOLDER = "colmap/sparse/0", "colmap/text"
COLMAP_PICTURES = "colmap/images"  # a link to the folder of the pictures
Points = tuple[np.ndarray, np.ndarray] | SparsePoints


@dataclasses.dataclass(frozen=True, eq=False)
class CameraSet:
    """What is written. `named`: files say the frames' names, else the paths of their pictures."""

    frames: tuple[Frame, ...]
    points: SparsePoints | None
    inputs: tuple[int, ...]
    named: bool

    def names(self) -> list[str]:
        """Of the pictures, as files say them that may lie anywhere."""
        if self.named:
            return [frame.name for frame in self.frames]
        return [os.path.abspath(frame.image_path) for frame in self.frames]

    def pictures(self) -> Path | None:
        """The folder below which all pictures lie, where their paths are known."""
        if self.named:
            return None
        return Path(os.path.commonpath([os.path.dirname(name) for name in self.names()]))


def write_cameras(
    formats: Sequence[str],
    folder: Path | str,
    names: Sequence[str],
    world_from_camera: np.ndarray,
    intrinsics: np.ndarray,
    sizes: np.ndarray,
    points: Points | None = None,
) -> list[Path]:
    """Writes cameras into a folder, in each of the `FORMATS` that are named; returns the files.

    `names` are those of the pictures, as files are to say them: absolute, or relative to where
    readers look for them. Poses [n, 4, 4] are OpenCV's (x right, y down, z forward), intrinsics
    [n, 4] fx, fy, cx, cy in pixels with centres at +0.5, sizes [n, 2] height and width. `points`
    are positions [p, 3] in the world of the poses and colours uint8 [p, 3], with tracks where they
    are `SparsePoints`; COLMAP's model holds them, and a PLY beside nerfstudio's file. Raises
    InputError, before anything is written, for an unknown format, arrays that do not fit together
    and cameras that are none.
    """
    poses, lenses = np.asarray(world_from_camera, np.float64), np.asarray(intrinsics, np.float64)
    extents = np.asarray(sizes)
    given = {
        "world_from_camera": (poses, (4, 4)),
        "intrinsics": (lenses, (4,)),
        "sizes": (extents, (2,)),
    }
    for name, (array, last) in given.items():
        if array.shape != (len(names), *last):
            raise InputError.of(
                f"{name}.shape", array.shape, f"is not {(len(names), *last)}",
                f"give one for each of the {len(names)} names",
            )  # fmt: skip
    frames = [
        Frame(number, name, Path(name), lens, pose, (int(size[0]), int(size[1])))
        for number, (name, pose, lens, size) in enumerate(
            zip(names, poses, lenses, extents, strict=True)
        )
    ]
    return write_frames(formats, folder, frames, points, named=True)


def write_frames(
    formats: Sequence[str],
    folder: Path | str,
    frames: Sequence[Frame],
    points: Points | None = None,
    *,
    inputs: Sequence[int] = (),
    named: bool = False,
) -> list[Path]:
    """`write_cameras` of a capture's frames, with their lenses, masks and paths of pictures.

    `inputs` are positions of frames that nerfstudio's file lists as the inputs of their number.
    `named`: the frames' names stand in place of the paths. Raises InputError, too, for a lens that
    a format has no place for.
    """
    check_formats(formats)
    check_frames(frames)
    found = None if points is None else SparsePoints.of(points, len(frames))
    cameras = CameraSet(tuple(frames), found, tuple(inputs), named)
    Path(folder).mkdir(parents=True, exist_ok=True)
    return [
        path for each in dict.fromkeys(formats) for path in FORMATS[each](Path(folder), cameras)
    ]


def check_formats(formats: Sequence[str]) -> None:
    """Raises InputError for names that are not in `FORMATS`, and where there are none."""
    unknown = [each for each in formats if each not in FORMATS]
    if unknown or not formats:
        raise InputError.of(
            "camera formats", unknown, "are unknown", f"use some of {', '.join(FORMATS)}"
        )


def check_frames(frames: Sequence[Frame]) -> None:
    """Raises InputError unless there are frames, of different names, with sound cameras."""
    if not frames:
        raise InputError("cameras=[] are none; give at least one")
    names = [frame.name for frame in frames]
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise InputError(f"cameras: {listed(twice)} name more than one; rename their pictures")
    for frame in frames:
        problem, lens = pose_problem(frame.world_from_camera), frame.intrinsics
        if problem is None and not (np.isfinite(lens).all() and min(lens[:2]) > 0):
            problem = f"has the intrinsics {lens.tolist()}, which are no pinhole's"
        if problem is not None:
            raise InputError(f"camera {frame.name} {problem}; leave it out")


def _colmap(folder: Path, cameras: CameraSet) -> list[Path]:
    pictures, names = cameras.pictures(), cameras.names()
    if pictures is not None:
        names = [Path(os.path.relpath(name, pictures)).as_posix() for name in names]
    written = write_colmap(
        folder / COLMAP_FOLDER, folder / COLMAP_TEXT_FOLDER, names, cameras.frames, cameras.points
    )
    if pictures is not None:
        _link(folder / COLMAP_PICTURES, pictures)
    return written


def _link(path: Path, target: Path) -> None:
    """So that what trains on the model finds its pictures; some file systems have no links."""
    if path.is_symlink():
        path.unlink()
    try:
        path.symlink_to(target, target_is_directory=True)
    except OSError:
        path.with_name("pictures.txt").write_text(f"{target}\n", encoding="utf-8")


def _nerfstudio(folder: Path, cameras: CameraSet) -> list[Path]:
    more, written = _points(folder, cameras)
    written = [folder / TRANSFORMS_FILE, *written]
    write_transforms(written[0], cameras.frames, cameras.inputs, names=cameras.names(), more=more)
    return written


def _points(folder: Path, cameras: CameraSet) -> tuple[dict[str, str], list[Path]]:
    """What a JSON file says of the points, and the PLY that is written for it."""
    points = cameras.points
    if points is None or not len(points.xyz):
        return {}, []
    write_points_ply(folder / POINTS_FILE, points)
    return {"ply_file_path": POINTS_FILE}, [folder / POINTS_FILE]


def _opencv(folder: Path, cameras: CameraSet) -> list[Path]:
    bent = [frame.name for frame in cameras.frames if frame.distortion]
    if bent:
        raise InputError(
            f"cameras: {listed(bent)} have lenses that distort, which {OPENCV_FILE} has no place "
            "for; write colmap or nerfstudio"
        )
    entries = []
    for name, frame in zip(cameras.names(), cameras.frames, strict=True):
        height, width = frame.size or image_size(frame.image_path)
        lens = dict(zip(("fx", "fy", "cx", "cy"), map(float, frame.intrinsics), strict=True))
        pose = rigid_inverse(frame.world_from_camera).tolist()
        entries.append({"file_path": name, "w": width, "h": height, **lens, "w2c": pose})
    path, (more, written) = folder / OPENCV_FILE, _points(folder, cameras)
    path.write_text(json.dumps({**more, "frames": entries}, indent=1) + "\n", encoding="utf-8")
    return [path, *written]


def _tum(folder: Path, cameras: CameraSet) -> list[Path]:
    poses = [frame.world_from_camera for frame in cameras.frames]
    write_trajectory(folder / TUM_FILE, [frame.number for frame in cameras.frames], poses)
    return [folder / TUM_FILE]


FORMATS: dict[str, Callable[[Path, CameraSet], list[Path]]] = {
    "colmap": _colmap, "nerfstudio": _nerfstudio, "tum": _tum, "opencv": _opencv,
}  # fmt: skip
