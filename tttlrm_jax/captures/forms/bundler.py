"""Bundler's `bundle.out` (version 0.3) with its list of pictures, `list.txt`.

After `# Bundle file v0.3` come the numbers of cameras and points, then five lines for each camera:
f k1 k2, three rows of the rotation R, and t. A point X is P = R X + t in the camera's axes, which
are OpenGL's (y up, looking along -z); it appears at p = -(Px, Py) / Pz, times 1 + k1 p^2 + k2 p^4,
times f pixels, from the middle of the picture with y up. A camera with f = 0 is not registered.
The list has a name in each line, perhaps followed by ` 0 ` and a focal length.

Source: Bundler's user manual (Snavely 2006), section "Output format". The file states no size of
pictures: their own is taken, so pictures that were resized since cannot be noticed. Files of the
kind "positive z", which some programs write, are told by their points, which lie behind the
cameras, and refused.
"""

import itertools
import re
from pathlib import Path

import numpy as np

from tttlrm_jax.captures.camera_files import OPENCV_FROM_OPENGL, CameraFile
from tttlrm_jax.captures.forms import parts
from tttlrm_jax.captures.lenses.distortion import Distortion
from tttlrm_jax.core.errors import InputError

PLACES = ("", "bundle")  # folders
TITLE = "# Bundle file v0.3"
FOCAL = re.compile(r"\s+0\s+[-+0-9.eE]+\s*$")  # behind a name in the list
POINTS_LOOKED_AT = 200


def find(directory: Path) -> list[Path]:
    """Files with the title, in the folder or its `bundle`."""
    found = [path for place in PLACES for path in parts.files_in(directory / place, ".out")]
    return [path for path in found if knows(path)]


def knows(path: Path) -> bool:
    """Whether a file has the title."""
    return path.is_file() and path.suffix.lower() == ".out" and parts.head(path).startswith(TITLE)


def read(path: Path) -> CameraFile:
    """Reads cameras and the list; as many names as cameras are needed."""
    list_path = _list_path(path)
    names = [FOCAL.sub("", line).strip() for line in parts.read_text(list_path).split("\n")]
    names = [name for name in names if name]
    cameras, points = _blocks(path)
    if len(cameras) != len(names):
        raise InputError(
            f"{path} has {len(cameras)} cameras, {list_path} names {len(names)} pictures; give the "
            "list that was written with it"
        )
    registered = [n for n, camera in enumerate(cameras) if camera[0, 0] != 0]
    poses = {n: _pose(f"{path}: camera {n}", cameras[n]) for n in registered}
    _check_points(path, points, poses)
    root = path.parent.parent if path.parent.name == "bundle" else path.parent
    frames = [_camera(path, n, names[n], cameras[n], poses[n]) for n in registered]
    lost = [name for n, name in enumerate(names) if n not in poses]
    notes = parts.left_out("pictures are not registered", lost, len(names))
    return parts.capture_file(path, root, frames, notes=notes)


def _list_path(path: Path) -> Path:
    """The list beside the file or, for Bundler's own folder, above it."""
    stem = path.name.removesuffix(".out").removesuffix(".bundle")
    names = [f"{stem}.list.txt", f"{path.name}.list.txt", f"{stem}.lst", f"{stem}.txt", "list.txt"]
    if stem.startswith("bundle."):
        names.insert(0, f"list.{stem.removeprefix('bundle.')}.txt")
    places = [folder / name for folder in (path.parent, path.parent.parent) for name in names]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise InputError(
            f"{path} has no list of its pictures ({', '.join(names)}) beside it; add it"
        )
    return found


def _blocks(path: Path) -> tuple[list[np.ndarray], list[list[str]]]:
    """Of each camera five rows of three numbers, and the first points, three lines each."""
    with open(path, encoding="utf-8-sig", errors="replace") as stream:
        lines = (line.split() for line in stream if line.strip() and not line.startswith("#"))
        header = next(lines, [])
        where = f"{path}: numbers of cameras and points"
        counts = parts.numbers(where, "line", header, 2)
        if (counts < 0).any() or (counts % 1).any():
            raise InputError(f"{where}={header} are not whole; export again")
        cameras = []
        for number in range(int(counts[0])):
            rows = list(itertools.islice(lines, 5))
            values = parts.numbers(f"{path}: camera {number}", "lines", itertools.chain(*rows), 15)
            cameras.append(values.reshape(5, 3))
        points = list(itertools.islice(lines, 3 * min(int(counts[1]), POINTS_LOOKED_AT)))
    return cameras, points


def _pose(where: str, camera: np.ndarray) -> np.ndarray:
    """camera_from_world [4, 4] in OpenGL axes."""
    return parts.rigid(where, "its pose", np.column_stack([camera[1:4], camera[4]]))


def _check_points(path: Path, points: list[list[str]], poses: dict[int, np.ndarray]) -> None:
    """Raises InputError where most points lie behind the cameras that see them."""
    ahead = []
    for position, _, views in zip(points[::3], points[1::3], points[2::3], strict=False):
        where = f"{path}: a point"
        place = parts.numbers(where, "position", position, 3)
        for camera in parts.numbers(where, "views", views)[1::4]:
            if (pose := poses.get(int(camera))) is not None:
                ahead.append(pose[2, :3] @ place + pose[2, 3] < 0)
    if ahead and np.mean(ahead) < 0.5:
        raise InputError(
            f"{path} has its points behind the cameras, as files of the kind 'positive z' do; "
            "export with negative z"
        )


def _camera(
    path: Path, number: int, name: str, camera: np.ndarray, pose: np.ndarray
) -> parts.Camera:
    focal, k1, k2 = map(float, camera[0])
    return parts.Camera(
        where=f"{path}: camera {number} ({name})",
        picture=name,
        world_from_camera=np.linalg.inv(OPENCV_FROM_OPENGL @ pose),
        lens=parts.centred(focal, focal),
        distortion=Distortion(k1=k1, k2=k2),
    )
