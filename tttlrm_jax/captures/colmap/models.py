"""Which of the COLMAP models beside a capture's pictures is read: the one with the most images."""

import dataclasses
import fnmatch
import functools
import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

from tttlrm_jax.core.errors import InputError, listed
from tttlrm_jax.core.files.natural_order import natural_order
from tttlrm_jax.core.files.text_files import read_lines

COLMAP_FILES = ("cameras.bin", "cameras.txt")
# where models lie, seen from the capture: of COLMAP, nerfstudio, hloc
MODEL_FOLDERS = (
    "", "sparse", "sparse/*", "colmap", "colmap/sparse", "colmap/sparse/*", "models/[0-9]*",
    "sfm*", "sfm*/models/[0-9]*",
)  # fmt: skip
# of undistorted pictures and of those before: used where they have more images
SECOND_FOLDERS = ("dense/sparse", "dense/*/sparse", "undistorted/sparse", "distorted/sparse",
                  "distorted/sparse/*")  # fmt: skip
FOLDERS_OF_MODELS = ("sparse", "models")  # a capture may be named by one of them


@dataclasses.dataclass(frozen=True)
class Model:
    """A model on disk."""

    cameras: Path  # its file

    @functools.cached_property
    def num_images(self) -> int:
        """That it holds; 0 where this cannot be read. Text is read for it, which may be long."""
        return _count(self.images)

    @property
    def images(self) -> Path:
        return images_file(self.cameras)


def images_file(cameras: Path) -> Path:
    """The `images` file of a `cameras` file."""
    return cameras.with_name("images" + cameras.suffix)


def find_model(directory: Path) -> Path | None:
    """The `cameras` file of the largest model in or below a directory; None without one."""
    largest = _largest(find_models(directory))
    return None if largest is None else largest.cameras


def find_models(directory: Path) -> list[Model]:
    """The models of a capture, in the order of the folders that are known; one per folder."""
    inside = ("[0-9]*",) if directory.name in FOLDERS_OF_MODELS else ()
    for patterns in ((*MODEL_FOLDERS, *SECOND_FOLDERS), inside):
        folders = [path for pattern in patterns for path in _matching(directory, pattern)]
        models = [model for path in dict.fromkeys(folders) if (model := _model(path)) is not None]
        if models:
            return models
    return []


def capture_of(model: Path) -> Path:
    """The directory above a model's in which `find_models` would look for it; else the model's."""
    inner, found = model.absolute(), model
    above = [inner, *inner.parents][: 1 + max(each.count("/") + 1 for each in SECOND_FOLDERS)]
    for folder in above[1:]:
        place = inner.relative_to(folder).as_posix()
        patterns = (*MODEL_FOLDERS, *SECOND_FOLDERS)
        if any(_fits(place, pattern) for pattern in patterns if pattern):
            found = folder
    return found


def model_notes(cameras: Path, pictures: Path) -> tuple[str, ...]:
    """What to say where the capture of this model, in the folder of its pictures, has others."""
    root = capture_of(cameras.parent).absolute()
    place = pictures.absolute()
    root = root if root.is_relative_to(place) or place.is_relative_to(root) else place
    models = find_models(root)
    if len(models) < 2:
        return ()
    names = {model.cameras: _name(model.cameras.parent, root) for model in models}
    sizes = [f"{names[each.cameras]} with {each.num_images} images" for each in models]
    chosen = _name(cameras.parent, root)
    return (
        f"of {len(models)} COLMAP models ({listed(sizes)}) {chosen} is read; name the folder of "
        "another one to read it",
    )


def _name(folder: Path, root: Path) -> str:
    relative = os.path.relpath(folder, root)
    return folder.resolve().name if relative == "." else relative


def _fits(place: str, pattern: str) -> bool:
    """Whether a relative path is of a pattern, folder by folder."""
    parts, patterns = place.split("/"), pattern.split("/")
    return len(parts) == len(patterns) and all(map(fnmatch.fnmatchcase, parts, patterns))


def _matching(directory: Path, pattern: str) -> list[Path]:
    if not pattern:
        return [directory]
    return natural_order(path for path in directory.glob(pattern) if path.is_dir())


def _model(folder: Path) -> Model | None:
    """The larger of the binary and the text model in a folder; of equal ones the binary."""
    files = [folder / name for name in COLMAP_FILES if (folder / name).is_file()]
    return _largest([Model(path) for path in files])


def _largest(models: Sequence[Model]) -> Model | None:
    """The first with the most images; an only one is not looked into."""
    if len(models) < 2:
        return next(iter(models), None)
    return max(models, key=lambda model: model.num_images)


def _count(images: Path) -> int:
    try:
        if images.suffix == ".bin":
            with images.open("rb") as stream:
                return struct.unpack("<Q", stream.read(8))[0]
        return sum(1 for _ in pose_lines(read_lines(images)))
    except (OSError, struct.error, InputError):
        return 0


def pose_lines(lines: Sequence[str]) -> Iterator[str]:
    """The lines of images.txt that are no comments and list no points.

    COLMAP writes a line of points after every image, which is empty where there are none; other
    programs leave the empty ones out.
    """
    after_image = False
    for line in lines:
        if line.startswith("#"):
            continue
        points = after_image and lists_points(line)
        after_image = bool(line) and not points
        if after_image:
            yield line


def lists_points(line: str) -> bool:
    """Whether a line is x, y and the whole number of a 3D point, again and again, or empty."""
    words = line.split()
    if len(words) % 3:
        return False
    try:
        [float(word) for word in words]
        [int(word) for word in words[2::3]]
    except ValueError:
        return False
    return True
