"""The forms in which sequences lie on disk; one function each, listed in `READERS`."""

import dataclasses
import functools
import math
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from tttlrm_jax.captures.beside import left_out
from tttlrm_jax.captures.pictures.depth_files import read_png_depth, read_sintel_depth, read_tagged
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.files.natural_order import natural_order
from tttlrm_jax.core.files.text_files import read_lines
from tttlrm_jax.core.geometry.poses import matrix_from_encoding
from tttlrm_jax.sequences.frame_images import upright_size
from tttlrm_jax.sequences.picture_folders import (
    IMAGE_FOLDERS,
    find_pictures,
    is_image,
    pictures_in,
    what_lies_there,
)
from tttlrm_jax.sequences.posed_folder import find_poses, posed_pictures, read_posed
from tttlrm_jax.sequences.sequence import (
    FrameFiles,
    FrameFolder,
    FrameSelection,
    Sequence,
    folder_sequence,
)
from tttlrm_jax.sequences.time_stamps import nearest_stamps
from tttlrm_jax.sequences.truth_notes import match_note, missing_truth
from tttlrm_jax.sequences.videos import open_video

ASSOCIATION = 0.02  # seconds between a picture and its depth or pose (TUM's own tools)
# depth files of 7-Scenes, the first there is, with the focal length in pixels at 640 x 480 of the
# camera that it belongs to: the colour camera's, to which depth was registered, or the depth one's
SEVEN_SCENES_DEPTH = ((".depth.proj.png", 525.0), (".depth.png", 585.0))
READ_MILLIMETRES, READ_TUM_DEPTH, READ_KITTI_DEPTH = (
    functools.partial(read_png_depth, units_per_metre=units) for units in (1000.0, 5000.0, 256.0)
)

# What a folder of its form holds, or the path of a video; None for what has another form.
Reader = Callable[[Path], FrameFolder | Path | None]


def open_sequence(
    path: str | Path,
    selection: FrameSelection | None = None,
    *,
    kind: str | None = None,
    skip_bad_poses: bool = False,
    intrinsics_scale: float | None = None,
) -> Sequence:
    """Opens a folder or video in the first form of `READERS` that it has, or as `kind`.

    `intrinsics_scale` multiplies the intrinsics of a file that is for pictures of another size.
    Raises InputError where there is nothing of a known form, and as `Sequence` does.
    """
    path, selection = Path(path), selection or FrameSelection()
    if not path.exists():
        raise InputError.of("capture", path, "does not exist", "give a folder or a video file")
    if kind is not None and kind not in READERS:
        raise InputError.of("kind", kind, "is unknown", f"use one of {list(READERS)}")
    for form in READERS if kind is None else [kind]:
        found = READERS[form](path)
        if isinstance(found, Path):
            return open_video(found, selection)
        if found is not None:
            name = path.resolve().name or "sequence"
            notes = (*found.notes, *_unread(path, form, found))
            found = dataclasses.replace(found, notes=notes)
            return folder_sequence(name, form, found, selection, skip_bad_poses, intrinsics_scale)
    raise InputError.of(
        "capture", path, f"holds no sequence of the form{'s' if kind is None else ''} "
        f"{', '.join(READERS) if kind is None else kind}",
        "see docs/guides/sequences.md for what each looks like",
    )  # fmt: skip


# names in the folder that the reader of a form looks into, beside the files of the frames
LOOKED_INTO = {
    "seven_scenes": r"camera-intrinsics\.txt|frame-.*\.pose\.txt",
    "tum": r"(rgb|depth|groundtruth)(\.txt)?",
    "scannet": r"color|depth|pose|intrinsic",
    "kitti": r"image_02|proj_depth",
}


def _unread(path: Path, form: str, found: FrameFolder) -> tuple[str, ...]:
    """What looks like truth in the folder (or beside it, if it is an `images/`) and is not read."""
    if not path.is_dir():
        return ()
    root = path.parent if path.name in IMAGE_FOLDERS else path
    files = [file for each in found.files for file in (each.image, each.depth) if file]
    return left_out(root, files, found.used, re.compile(LOOKED_INTO.get(form, "")))


def _seven_scenes(path: Path) -> FrameFolder | None:
    """frame-000000.color.png|jpg, .depth.proj.png or .depth.png (mm), .pose.txt.

    The lens is that of camera-intrinsics.txt, else the one that belongs to the depth.
    """
    if not path.is_dir():
        return None
    images = natural_order(each for each in path.glob("frame-*.color.*") if is_image(each))
    if not images:
        return None
    files, (suffix, focal) = [], _seven_scenes_depth(path)
    for image in images:
        stem = path / image.name.split(".")[0]
        depth, pose = stem.with_suffix(suffix), stem.with_suffix(".pose.txt")
        files.append(_frame(image, stem.name, _numbers(stem.name)[-1], depth, pose))
    lens, notes = path / "camera-intrinsics.txt", _seven_scenes_notes(path, files, suffix, focal)
    of_file = lens.exists()
    if of_file:
        intrinsics = _lens(_read_matrix(lens, (3, 3)))
    else:
        height, width = upright_size(images[0])
        intrinsics = np.array([focal * width / 640] * 2 + [width / 2, height / 2])
    notes = (*notes, *missing_truth(files))
    return FrameFolder(files, READ_MILLIMETRES, intrinsics, notes, lens_of_file=of_file)


def _seven_scenes_depth(path: Path) -> tuple[str, float]:
    """Which depth is read, and its camera's focal length: what is registered comes first."""
    there = (kind for kind in SEVEN_SCENES_DEPTH if next(path.glob(f"frame-*{kind[0]}"), None))
    return next(there, SEVEN_SCENES_DEPTH[-1])


def _seven_scenes_notes(
    path: Path, files: list[FrameFiles], suffix: str, focal: float
) -> tuple[str, ...]:
    """Which depth was read with which lens; nothing where there is no depth."""
    count = sum(each.depth is not None for each in files)
    if not count:
        return ()
    raw = suffix == ".depth.png"
    what = "the raw depth camera's, not registered to the pictures" if raw else (
        "registered to the pictures"
    )  # fmt: skip
    lens = f"the data set's {focal:g} px at 640 wide"
    if (path / "camera-intrinsics.txt").exists():
        lens = f"that of camera-intrinsics.txt, while the data set's is {focal:g} px at 640 wide"
    return (f"depth of {count} of {len(files)} frames is {suffix[1:]}, {what}; the lens is {lens}",)


def _tum(path: Path) -> FrameFolder | None:
    """rgb.txt, and where present depth.txt (PNG / 5000) and groundtruth.txt, matched in time."""
    if not (path / "rgb.txt").is_file():
        return None
    stamps, images = _read_list(path / "rgb.txt")
    depth, poses, notes = [None] * len(images), [None] * len(images), ()
    if (path / "depth.txt").is_file():
        times, names = _read_list(path / "depth.txt")
        nearest = nearest_stamps(stamps, times, ASSOCIATION)
        depth = [path / names[index] if index >= 0 else None for index in nearest]
        notes += match_note("depth.txt", stamps, times, nearest, ASSOCIATION)
    if (path / "groundtruth.txt").is_file():
        times, known = read_tum_trajectory(path / "groundtruth.txt")
        nearest = nearest_stamps(stamps, times, ASSOCIATION)
        poses = [known[index] if index >= 0 else None for index in nearest]
        notes += match_note("groundtruth.txt", stamps, times, nearest, ASSOCIATION)
    files = [
        FrameFiles(
            name=Path(image).stem, time=float(stamp), image=path / image, depth=known,
            world_from_camera=pose,
        )
        for stamp, image, known, pose in zip(stamps, images, depth, poses, strict=True)
    ]  # fmt: skip
    ordered = sorted(files, key=lambda file: file.time)
    if (np.diff(stamps) < 0).any():
        notes += ("pictures are taken in the order of their stamps, which is not that of rgb.txt",)
    return FrameFolder(ordered, READ_TUM_DEPTH, notes=notes)


def _scannet(path: Path) -> FrameFolder | None:
    """color/N.jpg with depth/N.png (mm), pose/N.txt and intrinsic/intrinsic_color.txt."""
    depth, pose = path / "depth", path / "pose"
    if not ((path / "color").is_dir() and (pose.is_dir() or depth.is_dir())):
        return None
    if not pose.is_dir() and find_poses(path) is not None:
        return None  # color/ and depth/ beside poses.txt: of the form `posed`
    files = [
        _frame(image, name, number, depth / f"{name}.png", pose / f"{name}.txt")
        for number, name, image in _numbered(path / "color")
    ]
    lens = path / "intrinsic" / "intrinsic_color.txt"
    intrinsics = _lens(_read_matrix(lens)) if lens.exists() else None
    notes = (*pictures_in(path / "color").notes, *missing_truth(files))
    return FrameFolder(files, READ_MILLIMETRES, intrinsics, notes)


def _sintel(path: Path) -> FrameFolder | None:
    """training/final|clean/SCENE with training/depth/SCENE and training/camdata_left/SCENE."""
    root = path.resolve().parent.parent
    depth, cameras = root / "depth" / path.name, root / "camdata_left" / path.name
    if not path.is_dir() or not (depth.is_dir() or cameras.is_dir()):
        return None
    files = [
        _frame(image, name, number, depth / f"{name}.dpt", cameras / f"{name}.cam")
        for number, name, image in _numbered(path)
    ]
    notes = (*pictures_in(path).notes, *missing_truth(files))
    return FrameFolder(files, read_sintel_depth, notes=notes)


def _kitti(path: Path) -> FrameFolder | None:
    """image_02/data/*.png with proj_depth/groundtruth/image_02/*.png (PNG / 256) in one drive.

    Only pictures that have depth are taken: the first and last five of a drive have none.
    """
    images, depth = path / "image_02" / "data", path / "proj_depth" / "groundtruth" / "image_02"
    if not (images.is_dir() and depth.is_dir()):
        return None
    pictures = list(_numbered(images))
    files = [
        FrameFiles(name=name, time=float(_numbers(name)[-1]), image=image, depth=known)
        for _, name, image in pictures
        if (known := depth / f"{name}.png").exists()
    ]
    left, notes = len(pictures) - len(files), pictures_in(images).notes
    if left:
        notes += (f"{left} of {len(pictures)} pictures are left out, since they have no depth",)
    return FrameFolder(files, READ_KITTI_DEPTH, notes=notes)


def _posed(path: Path) -> FrameFolder | None:
    """Pictures with poses.txt (or pose/), and where present K.txt, depth/, as KITTI's odometry."""
    poses = find_poses(path) if path.is_dir() else None
    found = None if poses is None else posed_pictures(path)
    return read_posed(path, poses, found) if poses and found and found.pictures else None


def _images_alone(path: Path) -> FrameFolder | None:
    """A folder that has pictures in one of `IMAGE_FOLDERS` or in itself; numbers count."""
    if not path.is_dir():
        return None
    found = find_pictures(path)
    if not found.pictures:
        raise InputError.of(
            "frames", 0, f"in {path.resolve().name} make no sequence (looked in it and in its "
            f"{', '.join(IMAGE_FOLDERS)}){what_lies_there(path)}",
            "give at least two pictures in order",
        )  # fmt: skip
    files = [
        FrameFiles(name=image.stem, time=float(number), image=image)
        for number, image in enumerate(found.pictures)
    ]
    return FrameFolder(files, notes=found.notes)


def _video(path: Path) -> Path | None:
    """A video file; every picture is decoded, the chosen ones are used."""
    if is_image(path) and path.is_file():
        raise InputError.of("capture", path, "is one picture", "give a folder of them or a video")
    return path if path.is_file() else None


READERS: dict[str, Reader] = {
    "seven_scenes": _seven_scenes,
    "tum": _tum,
    "scannet": _scannet,
    "sintel": _sintel,
    "kitti": _kitti,
    "posed": _posed,
    "images": _images_alone,
    "video": _video,
}


def read_tum_trajectory(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Stamps [frame] and poses [frame, 4, 4] of lines `time tx ty tz qx qy qz qw`.

    Quaternions of any length are taken; poses with NaN stay as they are. Raises InputError for
    lines of another form.
    """
    lines = _data_lines(path)
    try:
        table = np.array([[float(word) for word in line] for line in lines]).reshape(-1, 8)
    except ValueError:
        raise InputError.of(
            "trajectory", path, "has lines that are not eight numbers",
            "write time tx ty tz qx qy qz qw",
        ) from None  # fmt: skip
    encoding = table[:, [1, 2, 3, 7, 4, 5, 6]]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        length = np.linalg.norm(encoding[:, 3:], axis=1, keepdims=True)
        encoding[:, 3:] /= np.where(np.isfinite(length), length, np.nan)
    return table[:, 0], matrix_from_encoding(encoding)


def _read_list(path: Path) -> tuple[np.ndarray, list[str]]:
    """Stamps and file names of a TUM list; names may hold spaces, and more columns follow them."""
    lines = [line for line in read_lines(path) if line and not line.startswith("#")]
    try:
        entries = [re.split(r"[\s,]+", line, maxsplit=1) for line in lines]
        stamps = np.array([_finite(stamp) for stamp, _ in entries])
    except ValueError:
        raise InputError.of(
            "list", path, "has lines that are not a time and a file name", "correct them"
        ) from None
    return stamps, [_listed_file(path.parent, name) for _, name in entries]


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


def _listed_file(folder: Path, text: str) -> str:
    """The file that the rest of a line names: all of it where that exists, else its first word."""
    whole = text.strip('"')
    names = [whole, whole.replace("\\", "/"), *re.split(r"[\s,]+", text, maxsplit=1)[:1]]
    return next((name for name in names if os.path.isfile(folder / name)), names[-1])


def _data_lines(path: Path) -> list[list[str]]:
    words = (line.replace(",", " ").split() for line in read_lines(path))
    return [each for each in words if each and not each[0].startswith("#")]


def _read_matrix(path: Path, shape: tuple[int, int] = (4, 4)) -> np.ndarray:
    lines = _data_lines(path)
    try:
        return np.array([[float(word) for word in line] for line in lines]).reshape(shape)
    except ValueError:
        raise InputError.of(
            "matrix", path, f"does not hold {shape[0]}x{shape[1]} numbers", "restore the file"
        ) from None


def _read_sintel_camera(path: Path) -> np.ndarray:
    """World from camera of a .cam file, which holds K [3, 3] and camera from world [3, 4]."""
    content = read_tagged(path)
    if len(content) != 4 + 8 * 21:
        raise InputError(f"camera={path} is cut short or no Sintel camera; fetch it again")
    camera_from_world = np.eye(4)
    camera_from_world[:3] = np.frombuffer(content, "<f8", 12, 4 + 72).reshape(3, 4)
    finite = np.isfinite(camera_from_world).all() and np.linalg.det(camera_from_world) != 0
    return np.linalg.inv(camera_from_world) if finite else camera_from_world


def _lens(matrix: np.ndarray) -> np.ndarray:
    return np.array([matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2]])


def _numbers(text: str) -> list[int]:
    return [int(part) for part in re.findall("[0-9]+", text)] or [0]


def _numbered(folder: Path) -> Iterator[tuple[int, str, Path]]:
    """Pictures of a folder with their numbers and names."""
    images = pictures_in(folder).pictures
    return ((number, image.stem, image) for number, image in enumerate(images))


def _frame(image: Path, name: str, time: float, depth: Path, pose: Path) -> FrameFiles:
    """Depth and pose are known where their files exist."""
    read = _read_sintel_camera if pose.suffix == ".cam" else _read_matrix
    return FrameFiles(
        name=name, time=float(time), image=image, depth=depth if depth.exists() else None,
        world_from_camera=read(pose) if pose.exists() else None,
    )  # fmt: skip
