"""The camera files a capture directory can hold, read into frames.

`opencv_cameras.json`: a list of frames, or a dict with `frames` and optionally `scene_name`,
`fold_8_kmeans_N_input` and `ply_file_path` (points, as nerfstudio has them); a frame has
`file_path`, `w2c`, `fx`, `fy`, `cx`, `cy` and optionally `w`, `h`. `transforms.json` (nerfstudio,
instant-ngp, Blender): camera-to-world matrices with OpenGL axes (y up, looking along -z),
intrinsics for all frames or for each.

Cameras belong to the pixels as stored in the image files: an EXIF orientation is not applied.
"""

import dataclasses
import json
import math
import os
import re
import reprlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tttlrm_jax.captures.beside import unread_keys
from tttlrm_jax.captures.lenses.distortion import IDEAL_LENS, AnyDistortion
from tttlrm_jax.captures.lenses.models import PANORAMA
from tttlrm_jax.captures.lenses.sizes import CENTRED, size_factors
from tttlrm_jax.captures.lenses.transforms import finite_numbers, lens_of_entry
from tttlrm_jax.captures.pictures.images import image_size
from tttlrm_jax.captures.pictures.masks import MaskFile
from tttlrm_jax.captures.pictures.paths import (
    OTHER_FOLDERS,
    Pictures,
    locate,
    picture_path,
    places_of,
    scene_name,
)
from tttlrm_jax.captures.pictures.reduced import reduced_frames
from tttlrm_jax.captures.ply_points import points_of_document
from tttlrm_jax.captures.pose_matrices import scale_notes, square_matrix, unscaled_pose
from tttlrm_jax.captures.view_selection import evaluation_split
from tttlrm_jax.core.errors import InputError, listed
from tttlrm_jax.core.files.natural_order import natural_order
from tttlrm_jax.core.geometry.poses import pose_problem, rigid_inverse

OPENCV_FROM_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])
NO_LENS = np.full(4, np.nan)
FOLD_KEY = re.compile(r"fold_8_kmeans_([0-9]+)_input")
# of Blender's synthetic scenes, in the order in which they are looked for
SPLIT_FILES = ("transforms_train.json", "transforms_test.json", "transforms_val.json")


@dataclasses.dataclass(frozen=True, eq=False)
class Frame:
    """One photograph and its camera; `size` is (height, width) where the file states it."""

    number: int  # place in the camera file, from 0
    name: str
    image_path: Path
    intrinsics: np.ndarray  # float64 [4]
    world_from_camera: np.ndarray  # float64 [4, 4], OpenCV axes
    size: tuple[int, int] | None = None
    distortion: AnyDistortion = IDEAL_LENS
    mask: MaskFile | None = None  # which of its pixels count


@dataclasses.dataclass(frozen=True)
class CameraFile:
    """What a camera file says: the scene's name, its frames and prescribed input lists.

    `notes` say what was guessed or left out, a sentence each.
    """

    scene_name: str
    frames: tuple[Frame, ...]
    folds: dict[int, tuple[int, ...]]
    notes: tuple[str, ...] = ()
    looked_in: tuple[Path, ...] = ()  # folders in which its pictures were looked for
    points: Path | None = None  # a file of triangulated points
    # [3, 4] from their world to the cameras'; None: it is the same
    points_frame: np.ndarray | None = dataclasses.field(default=None, compare=False)
    about_pictures: tuple[str, ...] = ()  # notes on where they were found, and at which size


def read_camera_file(path: Path) -> CameraFile:
    """Reads any file whose name is in `READERS`; raises InputError with file and frame."""
    document = _read_json(path)
    if isinstance(document, list):
        document = {"frames": document}
    if not isinstance(document, dict) or not isinstance(document.get("frames"), list):
        raise InputError(f"{path} holds no list of frames; expected a list or a dict with 'frames'")
    if not document["frames"]:
        raise InputError(f"{path} lists 0 frames; a capture needs at least one")
    for number, entry in enumerate(document["frames"]):
        name = entry.get("file_path") if isinstance(entry, dict) else None
        if not isinstance(name, str) or not name.strip():
            what = "an empty" if isinstance(name, str) else "no"
            raise InputError(f"{path}: frame {number} has {what} file_path; name its image there")
    name = document.get("scene_name") or scene_name(path.parent)
    frames, pictures = _read_frames(path, document)
    folds = _read_folds(path, document, len(frames))
    points, place, lacking = points_of_document(path, document)
    contents = CameraFile(
        str(name), frames, folds, looked_in=pictures.looked_in, points=points, points_frame=place,
        about_pictures=pictures.notes,
    )  # fmt: skip
    unread = (*unread_keys(document["frames"], document), *lacking)
    if path.name not in TRANSFORMS_FILES:
        return with_notes(contents, *unread)
    poses = [(document | entry)["transform_matrix"] for entry in document["frames"]]
    return with_notes(_in_order(path, contents), *_beside(path), *scale_notes(poses), *unread)


def _read_frames(path: Path, document: dict) -> tuple[tuple[Frame, ...], Pictures]:
    """Frames in the order of the file, and where their pictures are."""
    entries, shared = document["frames"], {k: v for k, v in document.items() if k != "frames"}
    names = [entry["file_path"] for entry in entries]
    pictures = locate(names, places_of([path.parent], ("", "images", *OTHER_FOLDERS), names))
    frames = tuple(
        READERS[path.name](path, number, entry | {"file_path": name}, shared, image_path)
        for number, (entry, name, image_path) in enumerate(
            zip(entries, pictures.names, pictures.paths, strict=True)
        )
    )
    check_no_directories(path, frames)
    frames, note = reduced_frames(frames, pictures.place)
    return frames, dataclasses.replace(pictures, notes=(*pictures.notes, *note))


def check_no_directories(path: Path, frames: Sequence[Frame]) -> None:
    """Raises InputError where the file `path` names a directory as a frame's image."""
    for frame in frames:
        if os.path.isdir(frame.image_path):
            raise InputError(
                f"{path}: frame {frame.number} has file_path={frame.name}, a directory; "
                "name an image file"
            )


def _in_order(path: Path, contents: CameraFile) -> CameraFile:
    """In natural order of the names, as a COLMAP model is; lists of inputs keep the file's."""
    ordered = natural_order(contents.frames, lambda frame: frame.name)
    if contents.folds or list(contents.frames) == ordered:
        return contents
    frames = tuple(dataclasses.replace(frame, number=n) for n, frame in enumerate(ordered))
    note = f"frames are taken in the order of their names, which is not that of {path.name}"
    return with_notes(dataclasses.replace(contents, frames=frames), note)


def _beside(path: Path) -> list[str]:
    """What to say of the other lists of a scene that has several."""
    others = [name for name in SPLIT_FILES if (path.parent / name).is_file() and name != path.name]
    if path.name not in SPLIT_FILES or not others:
        return []
    return [f"{path.name} is read, {listed(others)} beside it not; name one to read it instead"]


def with_notes(contents: CameraFile, *notes: str) -> CameraFile:
    """What the file says, with more notes."""
    return dataclasses.replace(contents, notes=(*contents.notes, *notes))


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())  # in UTF-8, or UTF-16 or 32 with or without a mark
    except RecursionError:
        raise InputError(
            f"{path} nests its lists too deeply for a camera file; export the cameras again"
        ) from None
    except ValueError as error:  # of JSON, of its encoding, or a number of thousands of digits
        raise InputError(f"{path} is not JSON ({error}); export the cameras again") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); check the path") from None


def _opencv_frame(path: Path, number: int, entry: dict, _shared: dict, image_path: Path) -> Frame:
    where = f"{path}: frame {number} ({entry['file_path']})"
    camera_from_world = _pose(where, entry, "w2c")
    return Frame(
        number=number,
        name=entry["file_path"],
        image_path=image_path,
        intrinsics=_intrinsics(where, [entry.get(key) for key in ("fx", "fy", "cx", "cy")]),
        # the matrix inverse gives back the pose that a writer inverted, even if it was rounded
        world_from_camera=np.linalg.inv(camera_from_world),
        size=_stated_size(where, entry),
        mask=_mask(where, path.parent, entry),
    )


def _transforms_frame(
    path: Path, number: int, entry: dict, shared: dict, image_path: Path
) -> Frame:
    entry = shared | entry
    where = f"{path}: frame {number} ({entry['file_path']})"
    distortion = lens_of_entry(where, entry)
    world_from_opengl = _pose(where, entry, "transform_matrix", scaled=True)
    size = _stated_size(where, entry)
    return Frame(
        number=number,
        name=entry["file_path"],
        image_path=image_path,
        intrinsics=NO_LENS
        if distortion == PANORAMA
        else _transforms_intrinsics(where, entry, image_path, size),
        world_from_camera=world_from_opengl @ OPENCV_FROM_OPENGL,
        size=size,
        distortion=distortion,
        mask=_mask(where, path.parent, entry),
    )


def _mask(where: str, directory: Path, entry: dict) -> MaskFile | None:
    """The picture that `mask_path` names; raises InputError where there is none."""
    name = entry.get("mask_path")
    if name is None:
        return None
    path = picture_path(directory, name) if isinstance(name, str) and name.strip() else None
    if path is None:
        raise InputError(
            f"{where} has mask_path={reprlib.repr(name)}, which is no file; restore it or remove "
            "mask_path"
        )
    return MaskFile(path)


def _transforms_intrinsics(where, entry, image_path, size) -> np.ndarray:
    """From fl_x, fl_y, cx, cy or, where they are absent, the fields of view and the centre.

    A focal length that neither gives equals the other one.
    """
    focal_x, focal_y = entry.get("fl_x"), entry.get("fl_y")
    centre_x, centre_y = entry.get("cx"), entry.get("cy")
    from_angle = focal_y is None and entry.get("camera_angle_y") is not None
    if from_angle or None in (focal_x, centre_x, centre_y):
        if size is None and not os.path.isfile(image_path):
            return np.full(4, np.nan)  # reported, or skipped, with the missing images
        height, width = size or _size_of_camera(entry, image_size(image_path))
        centre_x = 0.5 * width if centre_x is None else centre_x
        centre_y = 0.5 * height if centre_y is None else centre_y
        focal_x = _focal(width, entry.get("camera_angle_x")) if focal_x is None else focal_x
        focal_y = _focal(height, entry.get("camera_angle_y")) if focal_y is None else focal_y
    focal_y = focal_x if focal_y is None else focal_y
    focal_x = focal_y if focal_x is None else focal_x
    return _intrinsics(where, [focal_x, focal_y, centre_x, centre_y])


def _size_of_camera(entry: dict, actual: tuple[int, int]) -> tuple[float, float]:
    """Height and width that a frame's intrinsics are for, where the file does not state them.

    Those of its picture, but for what the principal point says, or where there is none the focal
    length beside the field of view.
    """
    height, width = actual
    focal, *centre = (_bounded(entry.get(key)) for key in ("fl_x", "cx", "cy"))
    if None not in centre:
        wide, high = size_factors(np.array([0.0, 0.0, *centre]), actual) or (1.0, 1.0)
        return high * height, wide * width
    expected = _focal(width, entry.get("camera_angle_x"))
    if expected is None or focal is None:
        return height, width
    factor = focal / expected
    if 1 / CENTRED <= factor <= CENTRED:
        return height, width
    return factor * height, factor * width


def _bounded(pixels: Any) -> float | None:
    """A positive number that can be one of pixels, else None: it is refused elsewhere."""
    numeric = isinstance(pixels, int | float) and not isinstance(pixels, bool)
    return float(pixels) if numeric and 0 < pixels < 1e12 else None


def _focal(pixels: float, angle: Any) -> float | None:
    if not isinstance(angle, int | float) or isinstance(angle, bool) or not 0 < angle < np.pi:
        return None
    return 0.5 * pixels / math.tan(0.5 * angle)


def _pose(where: str, entry: dict, key: str, scaled: bool = False) -> np.ndarray:
    """The 4x4 or 3x4 matrix under `key`, also as one list of numbers.

    With `scaled` a rotation times one factor is a rotation: a camera to world whose axes are
    long has the same centre and sees the same.
    """
    if key not in entry:
        raise InputError(f"{where} has no {key}; add its 4x4 matrix or drop the frame")
    try:
        pose = np.asarray(entry[key], np.float64)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{where}: {key} is not a 4x4 matrix of numbers; correct it") from None
    pose = square_matrix(pose)
    if scaled:
        pose = unscaled_pose(pose)[0]
    problem = pose_problem(pose)
    if problem is not None:
        raise InputError(f"{where}: {key} {problem}; give a rotation and a translation")
    return pose


def _intrinsics(where: str, values: list) -> np.ndarray:
    intrinsics = np.array(finite_numbers(where, "intrinsics (fx, fy, cx, cy)", values))
    if (intrinsics[:2] <= 0).any():
        raise InputError(
            f"{where}: focal lengths {intrinsics[:2].tolist()} are not positive; give pixels"
        )
    return intrinsics


def _stated_size(where: str, entry: dict) -> tuple[int, int] | None:
    if entry.get("w") is None or entry.get("h") is None:
        return None
    height, width = finite_numbers(where, "h, w", [entry["h"], entry["w"]])
    if height < 1 or width < 1 or height % 1 or width % 1:
        raise InputError(f"{where}: image size w={width} h={height} is not whole and positive")
    return int(height), int(width)


def _read_folds(path: Path, document: dict, num_frames: int) -> dict[int, tuple[int, ...]]:
    folds = {}
    for key, frames in document.items():
        match = FOLD_KEY.fullmatch(key)
        if match is None:
            continue
        valid = isinstance(frames, list) and all(
            type(number) is int and 0 <= number < num_frames for number in frames
        )
        if not valid or len(frames) != int(match[1]):
            raise InputError(
                f"{path}: {key} is not a list of {match[1]} frame numbers below {num_frames}; "
                "correct or remove it"
            )
        folds[int(match[1])] = tuple(frames)
    return folds


def write_opencv_capture(
    directory: Path,
    images: Iterable[np.ndarray],
    world_from_camera: np.ndarray,
    intrinsics: np.ndarray,
    scene_name: str | None = None,
    input_counts: Sequence[int] = (),
) -> None:
    """Writes uint8 images [h, w, 3 or 4] as PNG files and their `opencv_cameras.json`.

    Poses are [view, 4, 4], intrinsics [view, 4] in pixels; the scene is named like the directory
    unless `scene_name` says otherwise. For each of `input_counts` the file lists that many inputs,
    so that those who take as many need not choose.
    """
    (directory / "images").mkdir(parents=True, exist_ok=True)
    frames = []
    for number, (image, pose, lens) in enumerate(
        zip(images, world_from_camera, intrinsics, strict=True)
    ):
        name = f"images/{number:06d}.png"
        Image.fromarray(image).save(directory / name, optimize=True)
        frames.append(
            {"file_path": name, "w": image.shape[1], "h": image.shape[0]}
            | dict(zip(("fx", "fy", "cx", "cy"), map(float, lens), strict=True))
            | {"w2c": rigid_inverse(pose).tolist()}
        )
    chosen = {
        f"fold_8_kmeans_{count}_input": evaluation_split(world_from_camera, count)[0].tolist()
        for count in input_counts
    }
    document = {"scene_name": scene_name or directory.name, **chosen, "frames": frames}
    (directory / "opencv_cameras.json").write_text(json.dumps(document, indent=1) + "\n")


TRANSFORMS_FILES = ("transforms.json", *SPLIT_FILES)
READERS = {
    "opencv_cameras.json": _opencv_frame,
    **dict.fromkeys(TRANSFORMS_FILES, _transforms_frame),
}
