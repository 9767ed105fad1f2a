"""Which of a COLMAP model's images saw each of its points, and where; text or binary."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tttlrm_jax.captures.colmap.models import images_file, lists_points
from tttlrm_jax.captures.colmap.points import REMEDY, read_points
from tttlrm_jax.captures.colmap.reader import Lens, read_lenses
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.files.binary_reader import BinaryReader
from tttlrm_jax.core.files.text_files import read_lines

Track = np.ndarray  # int [observation, 2]: number of the image, place of the observation in it


@dataclasses.dataclass(frozen=True, eq=False)
class SeenPoints:
    """The points of a model in the order of `read_points`, and their observations."""

    xyz: np.ndarray  # float64 [point, 3]
    rgb: np.ndarray  # uint8 [point, 3]
    point: np.ndarray  # int [observation]
    image: np.ndarray  # int [observation], place in `names`
    pixel: np.ndarray  # float64 [observation, 2], x and y, of images of the stated widths
    names: tuple[str, ...]
    lenses: tuple[Lens, ...]  # of the images
    poses: np.ndarray  # float64 [image, 7] camera from world: quaternion (w, x, y, z), translation

    @property
    def widths(self) -> tuple[int, ...]:
        """Of the images, in pixels."""
        return tuple(lens["size"][1] for lens in self.lenses)


class _Image(NamedTuple):
    number: int
    name: str
    camera: int
    pixels: np.ndarray  # float64 [observation, 2]
    pose: Sequence[float]  # quaternion, then translation


def read_seen_points(path: Path) -> SeenPoints:
    """Reads the `points3D` file of a model, and the `images` and `cameras` beside it.

    Raises InputError for broken files, and for tracks of images or observations that are not there.
    """
    binary, cameras = path.suffix == ".bin", path.with_name("cameras" + path.suffix)
    xyz, rgb = read_points(path)
    lenses = read_lenses(cameras)
    images = list((_binary_images if binary else _text_images)(images_file(cameras)))
    place = {image.number: index for index, image in enumerate(images)}
    tracks = list((_binary_tracks if binary else _text_tracks)(path))
    point = np.repeat(np.arange(len(tracks)), [len(track) for track in tracks])
    flat = np.concatenate([np.zeros((0, 2), np.int64), *tracks])
    try:
        image = np.array([place[number] for number in flat[:, 0].tolist()], np.int64)
        pixel = [images[n].pixels[index] for n, index in zip(image, flat[:, 1], strict=True)]
        used = tuple(lenses[image.camera] for image in images)
    except (KeyError, IndexError):
        raise InputError(f"{path} has tracks of images that are not there; {REMEDY}") from None
    return SeenPoints(
        xyz, np.rint(255 * rgb).astype(np.uint8), point, image,
        np.array(pixel, np.float64).reshape(-1, 2), tuple(each.name for each in images), used,
        np.array([each.pose for each in images], np.float64).reshape(-1, 7),
    )  # fmt: skip


def _binary_images(path: Path) -> Iterator[_Image]:
    reader = BinaryReader(path, REMEDY)
    for _ in range(reader.values("Q")[0]):
        number, *pose, camera = reader.values("I7dI")
        name, count = reader.name(), reader.values("Q")[0]
        rows = np.array(reader.values("2dq" * count), np.float64).reshape(-1, 3)
        yield _Image(number, name, camera, rows[:, :2], pose)


def _binary_tracks(path: Path) -> Iterator[Track]:
    reader = BinaryReader(path, REMEDY)
    for _ in range(reader.values("Q")[0]):
        length = reader.values("Q3d3BdQ")[-1]
        yield np.array(reader.values(f"{2 * length}I"), np.int64).reshape(-1, 2)


def _rows(path: Path) -> list[str]:
    return [line for line in read_lines(path, remedy=REMEDY) if not line.startswith("#")]


def _text_images(path: Path) -> Iterator[_Image]:
    lines, index = _rows(path), 0
    while index < len(lines):
        line, seen = lines[index], lines[index + 1] if index + 1 < len(lines) else ""
        index += 1
        if not line:
            continue
        words = line.split(maxsplit=9)
        number, camera = _whole(path, line, [words[0], *words[8:9]])
        pixels = np.zeros((0, 2))
        if lists_points(seen):
            index += 1
            pixels = np.array(seen.split(), np.float64).reshape(-1, 3)[:, :2]
        yield _Image(number, words[-1], camera, pixels, _pose(path, line, words[1:8]))


def _pose(path: Path, line: str, words: list[str]) -> list[float]:
    try:
        pose = [float(word) for word in words]
    except ValueError:
        pose = []
    if len(pose) != 7:
        raise InputError(f"{path}: the line {line[:60]!r} is not one of COLMAP's; {REMEDY}")
    return pose


def _text_tracks(path: Path) -> Iterator[Track]:
    for line in filter(None, _rows(path)):
        words = line.split()[8:]
        yield np.array(_whole(path, line, words[: len(words) // 2 * 2]), np.int64).reshape(-1, 2)


def _whole(path: Path, line: str, words: list[str]) -> list[int]:
    try:
        numbers = [int(word) for word in words]
    except ValueError:
        numbers = []
    if len(numbers) != len(words):
        raise InputError(f"{path}: the line {line[:60]!r} is not one of COLMAP's; {REMEDY}")
    return numbers
