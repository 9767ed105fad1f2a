"""What readers of camera files share: files, numbers, poses, and how pictures and cameras meet.

Every function raises InputError, in one sentence, for what it cannot read.
"""

import dataclasses
import io
import json
import math
import os
import reprlib
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree import ElementTree

import numpy as np

from tttlrm_jax.captures.camera_files import NO_LENS, CameraFile, Frame
from tttlrm_jax.captures.lenses.distortion import IDEAL_LENS, Distortion
from tttlrm_jax.captures.pictures.images import image_size
from tttlrm_jax.captures.pictures.paths import (
    ENDINGS,
    OTHER_FOLDERS,
    Pictures,
    Place,
    locate,
    places_of,
)
from tttlrm_jax.captures.pictures.reduced import reduced_frames
from tttlrm_jax.captures.pose_matrices import square_matrix
from tttlrm_jax.core.errors import InputError, first_line, listed
from tttlrm_jax.core.files.natural_order import natural_order
from tttlrm_jax.core.files.text_files import read_text
from tttlrm_jax.core.geometry.poses import FARTHEST, pose_problem

PICTURE_FOLDERS = ("images", *OTHER_FOLDERS, "")  # of a capture, in this order
LARGEST_ARRAYS = 2**28  # bytes that a file of cameras may unpack to
LARGEST_SKEW = 0.5  # pixels, at the edge of the picture, that a lens without skew may be wrong by
HEAD = 4096  # bytes that tell a form
AGAIN = "export the cameras again"


# ---- files --------------------------------------------------------------------------------------


def head(path: Path, size: int = HEAD) -> str:
    """The beginning of a text file without a byte order mark; empty where it cannot be read."""
    try:
        with open(path, "rb") as stream:
            return stream.read(size).decode("utf-8-sig", errors="replace")
    except OSError:
        return ""


def files_in(directory: Path, *suffixes: str) -> list[Path]:
    """Files of a folder by suffix (lower case), in natural order; none where there is no folder.

    Hidden ones, such as `._a.png`, are another program's.
    """
    try:
        found = [path for path in directory.iterdir() if path.suffix.lower() in suffixes]
        found = [path for path in found if not path.name.startswith(".")]
    except OSError:
        return []
    return natural_order((path for path in found if path.is_file()), lambda path: path.name)


def pictures_in(folder: Path) -> list[Path]:
    """Pictures of a folder in natural order."""
    return files_in(folder, *ENDINGS)


def first_with_pictures(folders: Iterable[Path]) -> Path | None:
    """The first of these folders with a picture in it."""
    return next((folder for folder in folders if pictures_in(folder)), None)


def read_object(path: Path) -> dict[str, Any]:
    """The object that a JSON file holds."""
    try:
        document = json.loads(read_text(path, "camera file", AGAIN))
    except RecursionError:
        raise InputError(f"{path} nests its lists too deeply; {AGAIN}") from None
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({first_line(error)}); {AGAIN}") from None
    if not isinstance(document, dict):
        raise InputError(f"{path} holds no JSON object; {AGAIN}")
    return document


def read_xml(path: Path) -> ElementTree.Element:
    """The root of an XML file; one that declares entities is refused."""
    text = read_text(path, "camera file", AGAIN)
    if "<!ENTITY" in text:
        raise InputError(f"{path} declares entities, which no camera file needs; {AGAIN}")
    if text.startswith("<?xml"):  # its encoding is decoded already
        text = text.partition("?>")[2]
    try:
        return ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError) as error:
        raise InputError(f"{path} is not XML ({first_line(error)}); {AGAIN}") from None


def read_array(path: Path, content: bytes | None = None, name: str = "") -> np.ndarray:
    """Real numbers, float64, of a .npy file or of `content`, an entry `name` of a .npz file."""
    where = f"{path}: {name}" if name else str(path)
    try:
        stream = io.BytesIO(path.read_bytes() if content is None else content)
        version = np.lib.format.read_magic(stream)
        read_header = np.lib.format.read_array_header_1_0
        if version != (1, 0):
            read_header = np.lib.format.read_array_header_2_0
        shape, fortran, kind = read_header(stream)
    except (
        OSError, ValueError, TypeError, SyntaxError, MemoryError, RecursionError,
        tokenize.TokenError,
    ) as error:  # fmt: skip
        raise InputError(
            f"{where} is no NumPy array ({first_line(error)}); save it again"
        ) from None
    values = stream.read()
    if kind.kind not in "fiu" or math.prod(shape) * kind.itemsize != len(values):
        raise InputError(
            f"{where} says {kind} of shape {reprlib.repr(shape)}, which its {len(values)} bytes "
            "are not as real numbers; save it again"
        )
    order = "F" if fortran else "C"
    return np.frombuffer(values, kind).reshape(shape, order=order).astype(np.float64)


def read_arrays(path: Path) -> dict[str, bytes]:
    """Contents of the arrays in a .npz file by name, for `read_array`."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [each for each in archive.infolist() if each.filename.endswith(".npy")]
            if sum(each.file_size for each in entries) > LARGEST_ARRAYS:
                raise InputError(f"{path} unpacks to over {LARGEST_ARRAYS} bytes; save it again")
            return {each.filename.removesuffix(".npy"): archive.read(each) for each in entries}
    except InputError:
        raise
    except (
        OSError, ValueError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError,
        RuntimeError, KeyError,
    ) as error:  # fmt: skip
        raise InputError(f"{path} is no .npz file ({first_line(error)}); save it again") from None


# ---- values -------------------------------------------------------------------------------------


def numbers(where: str, field: str, values: Iterable[Any], count: int | None = None) -> np.ndarray:
    """Finite float64 numbers of texts or numbers; `count`: how many there must be.

    Numbers beyond `FARTHEST` count as infinite: no camera is there.
    """
    given = list(values)
    try:
        found = np.array([_number(each) for each in given], np.float64)
    except (TypeError, ValueError, OverflowError):
        found = np.full(1, np.nan)
    if not (np.abs(found) <= FARTHEST).all() or (count is not None and len(given) != count):
        many = f"{count} finite numbers" if count not in (None, 1) else "finite"
        shown = reprlib.repr(given if len(given) != 1 else given[0])
        raise InputError(f"{where}: {field}={shown} is not {many}; correct it")
    return found


def _number(value: Any) -> float:
    if isinstance(value, str) and not (value.isascii() and "_" not in value):
        raise ValueError(value)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise TypeError(value)
    return float(value)


def size_of(where: str, width: Any, height: Any) -> tuple[int, int]:
    """Height and width in pixels; raises InputError for what is not whole and positive."""
    wide, high = numbers(where, "width, height", [width, height], 2)
    if not (wide >= 1 and high >= 1 and wide % 1 == 0 and high % 1 == 0):
        raise InputError(f"{where}: image size {wide:g}x{high:g} is not whole and positive")
    return int(high), int(wide)


def rigid(where: str, field: str, matrix: np.ndarray) -> np.ndarray:
    """A [4, 4] pose of its first three rows or the whole."""
    matrix = np.asarray(matrix, np.float64)
    matrix = square_matrix(matrix) if matrix.ndim == 2 else matrix
    problem = pose_problem(matrix)
    if problem is not None:
        raise InputError(f"{where}: {field} {problem}; give a rotation and a translation")
    return matrix


def refuse_skew(where: str, skew: float, fy: float, height: float) -> None:
    """Raises InputError for a lens whose y axis leans by more than half a pixel at the edge."""
    if abs(skew) * height > 2 * LARGEST_SKEW * fy:
        raise InputError(
            f"{where} has skew={skew:g} pixels, which moves edges by more than {LARGEST_SKEW} "
            "pixels; export pictures without distortion"
        )


# ---- cameras and pictures -----------------------------------------------------------------------

Lens = Callable[[int, int], Sequence[float]]  # of height and width: fx, fy, cx, cy in pixels


@dataclasses.dataclass(frozen=True, eq=False)
class Camera:
    """What a file says of one picture."""

    where: str  # for messages
    picture: str  # its name, as the file has it
    world_from_camera: np.ndarray  # float64 [4, 4], OpenCV axes
    lens: Lens
    size: tuple[int, int] | None = None  # height and width that the file states
    distortion: Distortion = IDEAL_LENS


def capture_file(
    path: Path,
    root: Path,
    cameras: Sequence[Camera],
    *,
    folders: Sequence[str] = PICTURE_FOLDERS,
    notes: Sequence[str] = (),
) -> CameraFile:
    """Cameras in natural order of their pictures, which lie in one of the folders of `root`.

    The capture is called like `root`. Raises InputError for no camera, and for two of one picture.
    """
    if not cameras:
        raise InputError(f"{path} has 0 cameras with a pose; a capture needs at least one")
    for camera in cameras:
        if not camera.picture.strip() or "\0" in camera.picture:
            raise InputError(f"{camera.where} has picture={camera.picture!r}; name its file")
    pictures = _located(root, [camera.picture for camera in cameras], folders)
    frames = [_frame(*each, pictures.place) for each in zip(cameras, pictures.paths, strict=True)]
    seen = set()
    for frame in frames:
        if frame.image_path in seen:
            raise InputError(f"{path} gives two cameras to {frame.name}; leave one of them out")
        seen.add(frame.image_path)
    ordered = natural_order(frames, lambda frame: frame.name)
    numbered = tuple(dataclasses.replace(frame, number=n) for n, frame in enumerate(ordered))
    reduced, note = reduced_frames(numbered, pictures.place)
    notes = (*notes, *pictures.notes, *note)
    return CameraFile(root.resolve().name, reduced, {}, notes, pictures.looked_in)


def _located(root: Path, names: list[str], folders: Sequence[str]) -> Pictures:
    """Pictures by name or, where none is there, by name without its ending."""
    present = [folder for folder in folders if (root / folder).is_dir()] or folders[:1]
    found = locate(names, places_of([root], present, names))
    if any(map(os.path.isfile, found.paths)):
        return found
    stems = [name[: -len(ending)] if (ending := _ending(name)) else name for name in names]
    others = locate(stems, places_of([root], present, stems))
    if not any(map(os.path.isfile, others.paths)):
        return found
    note = f"pictures have other endings than in the file of cameras: {others.paths[0].name}"
    return dataclasses.replace(others, notes=(*others.notes, note))


def _ending(name: str) -> str:
    ending = PurePosixPath(name).suffix
    return ending if ending.lower() in ENDINGS else ""


def _frame(camera: Camera, image_path: Path, place: Place) -> Frame:
    name = camera.picture.replace("\\", "/")
    if image_path.is_relative_to(place.path):
        name = image_path.relative_to(place.path).as_posix()
    size = camera.size
    if size is None and os.path.isfile(image_path):
        size = image_size(image_path)
    intrinsics = NO_LENS  # of a missing picture, which is reported with the others
    if size is not None:
        intrinsics = numbers(camera.where, "intrinsics", map(float, camera.lens(*size)), 4)
        if (intrinsics[:2] <= 0).any():
            raise InputError(
                f"{camera.where}: focal lengths {intrinsics[:2].tolist()} are not positive; "
                "correct the file"
            )
    return Frame(0, name, image_path, intrinsics, camera.world_from_camera, size, camera.distortion)


def fixed(*lens: float) -> Lens:
    """A lens that is stated in pixels."""
    return lambda _height, _width: lens


def centred(fx: float, fy: float, cx: float = 0.0, cy: float = 0.0) -> Lens:
    """A lens in pixels whose principal point is cx, cy off the middle."""
    return lambda height, width: (fx, fy, 0.5 * width + cx, 0.5 * height + cy)


def film(focal: float, cx: float = 0.0, cy: float = 0.0, aspect: float = 1.0) -> Lens:
    """A lens by the focal length in mm of a film whose larger side has 36 mm.

    The principal point is cx, cy off the middle, in parts of the larger side; aspect: fy over fx.
    """

    def lens(height: int, width: int) -> Sequence[float]:
        side = max(height, width)
        pixels = focal / 36.0 * side
        return pixels, pixels * aspect, 0.5 * width + cx * side, 0.5 * height + cy * side

    return lens


def in_plain_order(path: Path, folder: Path, count: int) -> tuple[list[Path], list[str]]:
    """`count` pictures of a folder for a file that names none, and notes.

    They are sorted as programs do that know no numbers, 10 before 2. Raises InputError for more
    pictures or fewer.
    """
    natural = pictures_in(folder)
    if len(natural) != count:
        raise InputError(
            f"{path} has {count} cameras, {folder} has {len(natural)} pictures, and they are "
            "matched by their order alone; restore the missing ones"
        )
    plain = sorted(natural, key=lambda each: each.name)
    if plain == natural:
        return plain, []
    names = listed([each.name for each in plain], 3)
    return plain, [
        f"{path.name} names no pictures: they are matched in plain order of names ({names}), as "
        "its own tools do"
    ]


def left_out(what: str, names: Sequence[str], total: int) -> list[str]:
    """A note that pictures or cameras are left out; none where there are none."""
    if not names:
        return []
    return [f"{len(names)} of {total} {what} and are left out: {listed(list(names), 4)}"]
