"""Folders of pictures with their poses as text: `poses.txt`, `K.txt` and `depth/` beside them.

The form of several multi-view-stereo code bases, and of KITTI's odometry. A line (or, in a folder
`pose/`, a file) holds a camera-to-world matrix of OpenCV axes, 12 or 16 numbers row by row. Nothing
in such a folder says so: the notes do.
"""

from pathlib import Path

import numpy as np

from tttlrm_jax.captures.pictures.float_depth import READERS as DEPTH_READERS
from tttlrm_jax.captures.pictures.float_depth import read_depth
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.files.natural_order import natural_order
from tttlrm_jax.core.files.text_files import read_lines
from tttlrm_jax.sequences.picture_folders import (
    PictureFolder,
    find_pictures,
    pictures_in,
    with_others_named,
)
from tttlrm_jax.sequences.sequence import FrameFiles, FrameFolder
from tttlrm_jax.sequences.truth_notes import missing_truth

POSE_FILES = ("poses.txt", "pose.txt", "traj.txt")
POSE_FOLDERS = ("pose", "poses")
LENS_FILES = (
    "K.txt", "intrinsics.txt", "intrinsic.txt", "camera_intrinsics.txt", "camera-intrinsics.txt",
)  # fmt: skip
DEPTH_FOLDERS = ("depth", "depths")
PICTURE_FOLDERS = ("image", "results", "image_2", "image_0")  # beside the usual ones
CALIBRATION, TIMES = "calib.txt", "times.txt"  # of KITTI's odometry
ALONE = "stream the pictures alone with --kind images"
_CALIBRATED = {"image_0": "P0", "image_1": "P1", "image_2": "P2", "image_3": "P3"}


def find_poses(folder: Path) -> Path | None:
    """The file or folder of poses that belongs to a folder of pictures; None without one."""
    for name in POSE_FILES:
        if (folder / name).is_file():
            return folder / name
    for name in POSE_FOLDERS:
        if (folder / name).is_dir() and any((folder / name).glob("*.txt")):
            return folder / name
    absolute = folder.resolve()  # KITTI's: sequences/00/image_2 and poses/00.txt
    apart = absolute.parent.parent / "poses" / f"{absolute.name}.txt"
    return apart if absolute.parent.name == "sequences" and apart.is_file() else None


def posed_pictures(folder: Path) -> PictureFolder:
    """The pictures of such a folder: in one of its own folders of pictures, else as of any."""
    own = [pictures_in(folder / name) for name in PICTURE_FOLDERS if (folder / name).is_dir()]
    own = [each for each in own if each.pictures]
    return with_others_named(own[0], own) if own else find_pictures(folder)


def read_posed(folder: Path, poses: Path, found: PictureFolder) -> FrameFolder:
    """Frames of the pictures found there, with the truth beside them.

    Raises InputError, naming the file, where poses do not fit the pictures in number or form.
    """
    pictures = [(image.stem, image) for image in found.pictures]
    matrices = _poses_of(poses, pictures)
    intrinsics, centre, lens_note, lens_file = _lens(folder, pictures)
    depth, depth_note = _depth_of(folder, pictures)
    times, times_note = _times(folder / TIMES, len(pictures))
    files = [
        FrameFiles(
            name=name, time=time, image=image, depth=depth.get(image),
            world_from_camera=None if pose is None else _moved(pose, centre),
        )
        for (name, image), time, pose in zip(pictures, times, matrices, strict=True)
    ]  # fmt: skip
    said = f"{poses.name}{'/' * poses.is_dir()} is read as camera to world, OpenCV axes, in metres"
    apart = not any(each.parent == found.folder for each in depth.values())
    left_out = found.notes if apart else ()
    notes = (said, *lens_note, *depth_note, *times_note, *missing_truth(files), *left_out)
    used = {poses.name, TIMES, *lens_file}
    return FrameFolder(files, read_depth, intrinsics, notes, frozenset(used))


# ---- poses --------------------------------------------------------------------------------------


def _moved(pose: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """The product; entries that are not finite stay so."""
    with np.errstate(invalid="ignore", over="ignore"):
        return pose @ centre


def _poses_of(path: Path, pictures: list[tuple[str, Path]]) -> list[np.ndarray | None]:
    """A pose per picture; of a folder, None where the picture has no file."""
    if path.is_dir():
        places = [path / f"{name}.txt" for name, _ in pictures]
        if not any(place.is_file() for place in places):
            raise InputError.of(
                "poses", path, "holds no file named like a picture",
                f"name them so, e.g. {places[0].name}, or {ALONE}",
            )  # fmt: skip
        return [_one_pose(place) if place.is_file() else None for place in places]
    rows = _rows(path)
    widths = {len(row) for row in rows}
    if widths == {4} and len(rows) == 4 * len(pictures):  # matrices under one another
        return list(np.array(rows).reshape(-1, 4, 4))
    if len(widths) != 1 or not widths <= {12, 16}:
        counts = ", ".join(str(width) for width in sorted(widths)) or "no"
        raise InputError.of(
            "poses", path, f"has lines of {counts} numbers, not of 12 or 16",
            f"write a camera-to-world matrix a line, or {ALONE}",
        )  # fmt: skip
    if len(rows) != len(pictures):
        raise InputError.of(
            "poses", path, f"holds {len(rows)} poses for {len(pictures)} pictures",
            f"give a line for each picture, or {ALONE}",
        )  # fmt: skip
    return [_matrix(row) for row in rows]


def _one_pose(path: Path) -> np.ndarray:
    numbers = [number for row in _rows(path) for number in row]
    if len(numbers) not in (12, 16):
        raise InputError.of(
            "pose", path, f"holds {len(numbers)} numbers, not 12 or 16",
            f"write a camera-to-world matrix, or {ALONE}",
        )  # fmt: skip
    return _matrix(numbers)


def _matrix(numbers: list[float]) -> np.ndarray:
    """[4, 4] of 12 or 16 numbers."""
    last = [] if len(numbers) == 16 else [0.0, 0.0, 0.0, 1.0]
    return np.array([*numbers, *last]).reshape(4, 4)


# ---- lens, times and depth ----------------------------------------------------------------------


def _lens(folder: Path, pictures: list[tuple[str, Path]]):
    """Intrinsics [4] or None, the picture's camera in the poses' [4, 4], notes, the file's name."""
    path = next((folder / name for name in LENS_FILES if (folder / name).is_file()), None)
    if path is not None:
        return _pinhole(path), np.eye(4), (), (path.name,)
    rows, name = _calibration(folder / CALIBRATION), pictures[0][1].parent.name
    projection = rows.get(_CALIBRATED.get(name, ""))
    if projection is None:
        return None, np.eye(4), (), ()
    # poses are those of the first camera: P = K [1 | t], so that camera stands at -t in it
    camera = np.eye(4)
    camera[:3, 3] = -np.linalg.solve(projection[:, :3], projection[:, 3])
    note = f"{CALIBRATION}: {_CALIBRATED[name]} is the lens, and its place beside the poses' camera"
    lens = projection[[0, 1, 0, 1], [0, 1, 2, 2]]
    return lens, camera, (note,), (CALIBRATION,)


def _pinhole(path: Path) -> np.ndarray:
    """fx, fy, cx, cy of a file that holds them, or a matrix of 3x3, 3x4 or 4x4."""
    numbers = [number for row in _rows(path) for number in row]
    if len(numbers) == 4:
        lens = np.array(numbers)
    else:
        columns = {9: 3, 12: 4, 16: 4}.get(len(numbers))
        matrix = np.zeros((3, 3)) if columns is None else np.array(numbers).reshape(-1, columns)
        lens = matrix[[0, 1, 0, 1], [0, 1, 2, 2]]
    if not np.isfinite(lens).all() or min(lens[:2]) <= 0:
        raise InputError.of(
            "intrinsics", path, "are neither a camera matrix in pixels nor fx fy cx cy",
            f"write the matrix of 3x3, or {ALONE}",
        )  # fmt: skip
    return lens


def _calibration(path: Path) -> dict[str, np.ndarray]:
    """Projections [3, 4] of lines `P2: ` and twelve numbers; empty where there are none."""
    found = {}
    for line in _lines(path) if path.is_file() else []:
        name, _, rest = line.partition(":")
        numbers = _numbers(rest)
        if numbers is not None and len(numbers) == 12:
            matrix = np.array(numbers).reshape(3, 4)
            if np.isfinite(matrix).all() and min(matrix[[0, 1, 2], [0, 1, 2]]) > 0:
                found[name.strip()] = matrix
    return found


def _times(path: Path, count: int) -> tuple[list[float], tuple[str, ...]]:
    """Seconds of each picture; their numbers where the file is none of as many ascending times."""
    numbers = [float(number) for number in range(count)]
    if not path.is_file():
        return numbers, ()
    times = [row[0] for row in _rows(path) if row]
    if len(times) == count and np.isfinite(times).all() and (np.diff(times) > 0).all():
        return times, ()
    return numbers, (f"{path.name} is not of {count} ascending times: frames are numbered",)


def _depth_of(folder: Path, pictures: list[tuple[str, Path]]):
    """Depth files by picture, matched by name, else by the number in it; and notes."""
    place = next((folder / name for name in DEPTH_FOLDERS if (folder / name).is_dir()), None)
    inside = pictures[0][1].parent  # such as Replica's results/depth000000.png
    files = _depth_files(place) if place else _depth_files(inside, "depth")
    if not files:
        return {}, ()
    matched = _matched({path.stem: path for path in files}, pictures)
    name = f"{(place or inside).name}/"
    if not matched:
        return {}, (f"{name} holds depth that no picture's name or number belongs to: not read",)
    unit = "as millimetres" if files[0].suffix.lower() == ".png" else "as metres"
    return matched, (f"depth in {name} is read {unit}",)


def _depth_files(folder: Path, prefix: str = "") -> list[Path]:
    return [
        each for each in natural_order(folder.iterdir(), lambda path: path.name)
        if each.suffix.lower() in DEPTH_READERS and each.name.startswith(prefix)
        and not each.name.startswith(".")
    ]  # fmt: skip


def _matched(by_stem: dict[str, Path], pictures: list[tuple[str, Path]]) -> dict[Path, Path]:
    found = {image: by_stem[name] for name, image in pictures if name in by_stem}
    if found:
        return found
    by_number = {_number(stem): path for stem, path in by_stem.items()}
    numbers = [_number(name) for name, _ in pictures]
    if len(by_number) < len(by_stem) or len(set(numbers)) < len(numbers):
        return {}
    return {
        image: by_number[number] for (_, image), number in zip(pictures, numbers, strict=True)
        if number in by_number
    }  # fmt: skip


def _number(text: str) -> str:
    """The last digits 0 to 9 of a name, without leading zeros."""
    digits = "".join(letter if letter in "0123456789" else " " for letter in text).split()
    return (digits[-1].lstrip("0") or "0") if digits else ""


# ---- text ---------------------------------------------------------------------------------------


def _rows(path: Path) -> list[list[float]]:
    """The numbers of every line. Raises InputError where a line holds anything else."""
    rows = []
    for line in _lines(path):
        numbers = _numbers(line)
        if numbers is None:
            raise InputError.of(
                "file", path, f"has the line {line[:40]!r}, which is not of numbers",
                f"correct it, or {ALONE}",
            )  # fmt: skip
        rows.append(numbers)
    return rows


def _numbers(line: str) -> list[float] | None:
    try:
        return [float(word) for word in line.replace(",", " ").split()]
    except ValueError:
        return None


def _lines(path: Path) -> list[str]:
    """Lines that are neither empty nor comments."""
    return [line for line in read_lines(path) if line and not line.startswith("#")]
