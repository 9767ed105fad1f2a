"""COLMAP's sparse models, text or binary, as frames of a capture.

A model is a directory with `cameras` and `images`, both .bin or both .txt. Poses are
`camera_from_world` as quaternion (w, x, y, z) and translation, OpenCV axes, pixel centres at +0.5.
Points are read where they are asked for (`points`). Frames are in natural order of their
names: COLMAP's own order is that of registration. Pictures lie in a folder beside or above the
model.
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from tttlrm_jax.captures.camera_files import NO_LENS, CameraFile, Frame
from tttlrm_jax.captures.colmap.models import capture_of, images_file, model_notes, pose_lines
from tttlrm_jax.captures.colmap.points import points_file
from tttlrm_jax.captures.lenses.distortion import AnyDistortion, Distortion
from tttlrm_jax.captures.lenses.models import (
    EQUIRECTANGULAR,
    LENS_MODELS,
    MODEL_OF_NUMBER,
    PANORAMA,
    READABLE,
    ModelDistortion,
)
from tttlrm_jax.captures.pictures.paths import (
    OTHER_FOLDERS,
    Pictures,
    locate,
    places_of,
    scene_name,
)
from tttlrm_jax.captures.pictures.reduced import reduced_frames
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.files.binary_reader import BinaryReader
from tttlrm_jax.core.files.natural_order import natural_order
from tttlrm_jax.core.files.text_files import read_lines
from tttlrm_jax.core.geometry.poses import FARTHEST, matrix_from_encoding, rigid_inverse

IMAGE_FOLDERS = ("images", "", *OTHER_FOLDERS)  # beside or above a model
LEVELS_UP = 4  # above the model that pictures are looked for
BROWN_MODELS = ("SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "FULL_OPENCV")
RATIONAL_TERMS = ("k4", "k5", "k6")  # of FULL_OPENCV's denominator
REMEDY = "export the model again"
Lens = dict[str, Any]  # what one of COLMAP's cameras says of a `Frame`


@dataclasses.dataclass(frozen=True)
class Photograph:
    """One of COLMAP's images."""

    name: str
    camera: int
    pose: Sequence[float]  # quaternion, then translation


def read_colmap(path: Path) -> CameraFile:
    """Reads the model whose `cameras` file this is.

    Raises InputError, naming file and entry, for broken files, poses, and unknown lens models.
    """
    binary, images_path = path.suffix == ".bin", images_file(path)
    lenses = read_lenses(path)
    found = list((_binary_images if binary else _text_images)(images_path))
    if not found:
        raise InputError(f"{images_path} lists 0 images; a capture needs at least one")
    found = natural_order(found, lambda image: image.name)
    pictures = _pictures(path.parent, [image.name for image in found])
    frames = [
        _frame(images_path, number, image, lenses, picture)
        for number, (image, picture) in enumerate(zip(found, pictures.paths, strict=True))
    ]
    root = pictures.place.root
    reduced, note = reduced_frames(tuple(frames), pictures.place, any_folder=True)
    notes = (*model_notes(path, root), *pictures.notes, *note)
    points = points_file(path)
    return CameraFile(scene_name(root), reduced, {}, notes, pictures.looked_in, points)


def read_lenses(path: Path) -> dict[int, Lens]:
    """What a `cameras` file says of each camera, by its number: `intrinsics`, `size` (height,
    width) and `distortion`. Raises InputError for a broken file."""
    return dict((_binary_cameras if path.suffix == ".bin" else _text_cameras)(path))


def _pictures(model: Path, names: list[str]) -> Pictures:
    """Looked for from the model upwards, last without the first folders of their names."""
    above = [model.absolute(), *model.absolute().parents][: LEVELS_UP + 1]
    holding = (path for path in above if (path / IMAGE_FOLDERS[0]).is_dir())
    likely = next(holding, capture_of(model))
    return locate(names, places_of([likely, *above], IMAGE_FOLDERS, names))


def _frame(path: Path, number: int, image: Photograph, lenses: dict[int, Lens], picture: Path):
    where = f"{path}: image {image.name}"
    if image.camera not in lenses:
        raise InputError(f"{where} has camera {image.camera}, which cameras lacks; export again")
    values = np.array(image.pose, np.float64)
    length = np.linalg.norm(np.clip(values[:4], -FARTHEST, FARTHEST))
    if not (np.abs(values) <= FARTHEST).all() or not length >= 1e-9:
        raise InputError(f"{where} has the pose {values.tolist()}, which is none; drop the image")
    camera_from_world = matrix_from_encoding(np.array([*values[4:], *values[:4] / length]))
    return Frame(
        number=number,
        name=image.name,
        image_path=picture,
        world_from_camera=rigid_inverse(camera_from_world),
        **lenses[image.camera],
    )


def _lens(where: str, model: str, width: int, height: int, values: list[float]) -> Lens:
    """Raises InputError for models that are not known and for broken parameters."""
    if model == EQUIRECTANGULAR:
        return {"intrinsics": NO_LENS, "size": (height, width), "distortion": PANORAMA}
    if model not in READABLE:
        raise InputError(
            f"{where} has the model {model}, which is none of {', '.join(READABLE)}; undistort "
            "the images with COLMAP's image_undistorter first"
        )
    kind = LENS_MODELS[model]
    focal = values[: kind.num_focal] * (3 - kind.num_focal)
    centre, rest = values[kind.num_focal :][:2], values[kind.num_focal + 2 :]
    sound = len(values) == len(kind.parameters) and all(map(math.isfinite, values))
    if not sound or min(focal) <= 0 or width < 1 or height < 1:
        raise InputError(
            f"{where} ({model}, {width}x{height}) has the parameters {values}, which are not "
            f"{', '.join(kind.parameters)} in pixels; export the model again"
        )
    return {
        "intrinsics": np.array([*focal, *centre]),
        "size": (height, width),
        "distortion": _distortion(model, dict(zip(kind.coefficients, rest, strict=True))),
    }


def _distortion(model: str, coefficients: dict[str, float]) -> AnyDistortion:
    """Brown's polynomial where it is one, else the model's own."""
    rational = model == "FULL_OPENCV" and any(coefficients[name] for name in RATIONAL_TERMS)
    if model not in BROWN_MODELS or rational:
        return ModelDistortion(model, tuple(coefficients.values()))
    kept = {"k1" if k == "k" else k: v for k, v in coefficients.items() if k not in RATIONAL_TERMS}
    return Distortion(**kept)


# ---- text ---------------------------------------------------------------------------------------


def _text_cameras(path: Path) -> Iterator[tuple[int, Lens]]:
    for line in read_lines(path, remedy=REMEDY):
        if not line or line.startswith("#"):
            continue
        try:
            number, model, *values = line.split()
            width, height, parameters = int(values[0]), int(values[1]), list(map(float, values[2:]))
            key = int(number)
        except (ValueError, IndexError) as error:
            _broken(path, line, error)
        yield key, _lens(f"{path}: camera {key}", model, width, height, parameters)


def _text_images(path: Path) -> Iterator[Photograph]:
    for line in pose_lines(read_lines(path, remedy=REMEDY)):
        fields = line.split(maxsplit=9)
        try:
            pose, camera, name = list(map(float, fields[1:8])), int(fields[8]), fields[9]
        except (ValueError, IndexError) as error:
            _broken(path, line, error)
        yield Photograph(name, camera, pose)


def _broken(path: Path, line: str, error: Exception) -> NoReturn:
    raise InputError(
        f"{path}: the line {line[:60]!r} is not one of COLMAP's ({error}); export the model again"
    ) from None


# ---- binary -------------------------------------------------------------------------------------


def _binary_cameras(path: Path) -> Iterator[tuple[int, Lens]]:
    reader = BinaryReader(path, REMEDY)
    for _ in range(reader.values("Q")[0]):
        key, kind, width, height = reader.values("IiQQ")
        where = f"{path}: camera {key}"
        if kind not in MODEL_OF_NUMBER:
            raise InputError(
                f"{where} has the model number {kind}, which is none of "
                f"{', '.join(f'{number} {name}' for number, name in MODEL_OF_NUMBER.items())}; "
                "undistort the images with COLMAP's image_undistorter first"
            )
        model = MODEL_OF_NUMBER[kind]
        count = len(LENS_MODELS[model].parameters)
        yield key, _lens(where, model, width, height, list(reader.values(f"{count}d")))


def _binary_images(path: Path) -> Iterator[Photograph]:
    reader = BinaryReader(path, REMEDY)
    for _ in range(reader.values("Q")[0]):
        _, *pose, camera = reader.values("I7dI")
        name = reader.name()
        reader.skip(24 * reader.values("Q")[0])  # x, y and the number of the point
        yield Photograph(name, camera, pose)
