"""Which files of a folder are the pictures of a sequence, in which order, and what is left out.

Depth, normals, masks and the like beside photographs are no frames; neither is one of two
pictures of the same name; formats that cannot be read are named.
"""

import collections
import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

from tttlrm_jax.captures.beside import map_word
from tttlrm_jax.captures.pictures.images import UNREAD_SUFFIXES
from tttlrm_jax.core.errors import listed
from tttlrm_jax.core.files.natural_order import natural_order

IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm",
    ".jp2", ".avif",
)  # fmt: skip
OTHER_SUFFIXES = (*UNREAD_SUFFIXES, ".insp", ".exr", ".hdr", ".psd", ".tga", ".gif", ".svg")
VIDEO_SUFFIXES = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".mpg", ".mts", ".3gp", ".insv")
# looked into before the folder itself
IMAGE_FOLDERS = (
    "images", "rgb", "color", "input", "frames", "image", "images_2", "images_4", "images_8",
)  # fmt: skip


LEVELS_DOWN, MOST_FOLDERS = 3, 64  # below a folder without pictures that such are looked for


@dataclasses.dataclass(frozen=True)
class PictureFolder:
    """Pictures in natural order, and sentences about what is left out."""

    folder: Path
    pictures: list[Path]
    notes: tuple[str, ...] = ()


def is_image(path: Path) -> bool:
    """Whether a file's name is that of a picture that can be read; hidden files are none."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def pictures_in(folder: Path) -> PictureFolder:
    """The frames in a folder itself."""
    files = natural_order((path for path in folder.iterdir() if not path.name.startswith(".")),
                          lambda path: path.name)  # fmt: skip
    pictures, notes = _without_maps(files)
    pictures, note = _without_twins(pictures)
    notes += note
    unread = _unread(files)
    if unread and pictures:
        notes.append(f"{_named(unread)} left out: convert them to JPEG or PNG to have them read")
    return PictureFolder(folder, pictures, tuple(notes))


def find_pictures(root: Path) -> PictureFolder:
    """The frames in one of `IMAGE_FOLDERS` below a folder, else in the folder itself."""
    inner = [root / name for name in IMAGE_FOLDERS if (root / name).is_dir()]
    found = [each for each in map(pictures_in, [*inner, root]) if each.pictures]
    chosen = next((each for each in found if len(each.pictures) > 1), None)
    chosen = chosen or next(iter(found), PictureFolder(root, []))
    return with_others_named(chosen, found)


def with_others_named(chosen: PictureFolder, found: Sequence[PictureFolder]) -> PictureFolder:
    """The chosen one of the folders that were found, which are named in its notes."""
    notes = [
        f"pictures in {chosen.folder} are used, {len(each.pictures)} in {each.folder} left out"
        for each in found if each is not chosen
    ]  # fmt: skip
    return dataclasses.replace(chosen, notes=(*chosen.notes, *notes))


def what_lies_there(root: Path) -> str:
    """What a folder without frames holds instead, as a part of a message; may be empty."""
    files = natural_order(root.iterdir(), lambda path: path.name)
    unread, videos = _unread(files), [p for p in files if p.suffix.lower() in VIDEO_SUFFIXES]
    if unread:
        return f", {_named(unread)} there: convert them to JPEG or PNG"
    if videos:
        return f", it holds the video {videos[0].name}: name that file"
    inner = _first_inside(root)
    return "" if inner is None else f", pictures lie in {inner.relative_to(root)}: name that folder"


def _first_inside(root: Path) -> Path | None:
    """The first folder below with two pictures, level by level."""
    level = [root]
    for _ in range(LEVELS_DOWN):
        folders = (each for path in level for each in natural_order(path.iterdir()))
        level = [each for each in folders if each.is_dir() and os.access(each, os.R_OK | os.X_OK)]
        found = (each for each in level if sum(map(is_image, each.iterdir())) > 1)
        if (first := next(found, None)) is not None:
            return first
        level = level[:MOST_FOLDERS]
    return None


def _unread(files: list[Path]) -> list[Path]:
    """Photographs of other formats."""
    others = [path for path in files if path.suffix.lower() in OTHER_SUFFIXES]
    return [path for path in others if map_word(path) is None]


def _without_maps(files: list[Path]) -> tuple[list[Path], list[str]]:
    """Pictures without depth and the like, where there are others; `a.jpg.png` is such a map."""
    pictures, names = [path for path in files if is_image(path)], {path.name for path in files}
    words = {path: "a map" if path.stem in names else map_word(path) for path in pictures}
    kept = [path for path in pictures if words[path] is None]
    if len(kept) < 2:
        return pictures, []
    words |= {path: map_word(path) for path in files if path.suffix.lower() in OTHER_SUFFIXES}
    maps = [path for path, word in words.items() if word is not None]
    if not maps:
        return pictures, []
    found = ", ".join(sorted({str(words[path]) for path in maps}))
    return kept, [f"{_named(maps)} left out: {found} beside the pictures, no frames"]


def _without_twins(pictures: list[Path]) -> tuple[list[Path], list[str]]:
    """One picture of every name: of the ending that most have, of equal ones the first."""
    stems = collections.Counter(path.stem for path in pictures)
    if len(stems) == len(pictures):
        return pictures, []
    endings = collections.Counter(path.suffix.lower() for path in pictures)
    rank = {each: (-count, IMAGE_SUFFIXES.index(each)) for each, count in endings.items()}
    best: dict[str, Path] = {}
    for path in pictures:
        other = best.get(path.stem)
        if other is None or rank[path.suffix.lower()] < rank[other.suffix.lower()]:
            best[path.stem] = path
    kept = [path for path in pictures if best[path.stem] == path]
    left = [path for path in pictures if best[path.stem] != path]
    return kept, [
        f"{_named(left)} left out: {best[left[0].stem].name} has the same name but for its ending"
    ]


def _named(paths: Sequence[Path]) -> str:
    names = listed([path.name for path in paths], 3)
    return f"{len(paths)} pictures ({names}) are" if len(paths) > 1 else f"{names} is"
