"""Where the pictures lie that a camera file names.

Names are looked for in places, one after the other: the first that has all of them is taken. A
name may have backslashes, lack its ending, or be spelled in other letters of the same meaning
(upper and lower case, composed and decomposed accents) where one file alone fits.
"""

import contextlib
import dataclasses
import functools
import itertools
import os
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from tttlrm_jax.core.errors import InputError, listed

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")  # of names without one
REDUCED_FOLDERS = ("images_2", "images_4", "images_8")  # pictures at a part of their size
OTHER_FOLDERS = ("input", *REDUCED_FOLDERS, "image", "rgb", "color")
# of a scene of DL3DV or a project of nerfstudio, in the order in which they are looked into
INNER_FOLDERS = ("nerfstudio", "colmap", "gaussian_splat")
MAX_DROPPED = 8  # folders that names may begin with
Listing = dict[str, list[str]]  # names in a folder by their letters


@dataclasses.dataclass(frozen=True)
class Place:
    """A folder to look in; the first `dropped` folders of every name are left out."""

    root: Path  # of the capture
    folder: str = ""
    dropped: int = 0

    @property
    def path(self) -> Path:
        return self.root / self.folder


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Paths in the order of the names; those of missing pictures do not exist."""

    names: tuple[str, ...]  # as in the file, with slashes and the spelling and ending on disk
    paths: tuple[Path, ...]
    place: Place
    looked_in: tuple[Path, ...]
    notes: tuple[str, ...] = ()


def scene_name(folder: Path) -> str:
    """The name of the scene whose cameras lie in a folder: that of the folder, or the one above
    where its own says how the cameras were made."""
    folder = folder.resolve()
    return (folder.parent if folder.name in INNER_FOLDERS else folder).name


def picture_path(directory: Path, name: str) -> Path | None:
    """The one file in a directory that a name means; None where there is none."""
    return _in_place(name, Place(directory), _listing)


def places_of(roots: Sequence[Path], folders: Sequence[str], names: Sequence[str]) -> list[Place]:
    """Every folder below every root; then the same for names without their first folders."""
    depth = max(1, *(len(_parts(name)) for name in names))
    return [
        Place(root, folder, dropped)
        for dropped in range(min(depth, MAX_DROPPED))
        for root in roots
        for folder in folders
    ]


def locate(names: Sequence[str], places: Sequence[Place]) -> Pictures:
    """The pictures in the first place that has all of them, else in the one that has the most.

    A place that drops folders must hold half of them, each once. Raises InputError where a name
    without ending fits two files.
    """
    best, most, listing = None, 0, functools.cache(_listing)
    for place in places:
        if place.folder and not os.path.isdir(place.path):
            continue
        found = [_in_place(name, place, listing) for name in names]
        count = sum(path is not None for path in found)
        if place.dropped and (2 * count < len(names) or not _distinct(names, found)):
            continue
        if count > most:
            best, most = (place, found), count
        if count == len(names):
            break
    place, found = best or (places[0], [None] * len(names))
    paths = [
        _path(name, place) if at is None else at for name, at in zip(names, found, strict=True)
    ]
    return Pictures(
        tuple(
            name if at is None else _spelled(name, at)
            for name, at in zip(names, found, strict=True)
        ),
        tuple(paths), place, tuple(dict.fromkeys(each.path for each in places)),
        _notes(names, place, places[0], paths),
    )  # fmt: skip


def _path(name: str, place: Place) -> Path:
    """As the name says, in a place; with backslashes as slashes where folders are dropped."""
    if not place.dropped:
        return place.path / name
    return place.path.joinpath(*_parts(name)[place.dropped :])


def _in_place(name: str, place: Place, listing: Callable[[Path], Listing]) -> Path | None:
    path = _path(name, place)
    if os.path.isfile(path):
        return path
    if len(_parts(name)) <= place.dropped or not path.name:
        return None
    if "\\" in name and not place.dropped:
        path = place.path / name.replace("\\", "/")
    return _similar(path, listing(path.parent))


def _similar(path: Path, listing: Listing) -> Path | None:
    """The one file of this name in other letters, or with an ending where it has none."""
    found = listing.get(_folded(path.name), ())
    if not found and path.suffix.lower() not in ENDINGS:
        endings = (listing.get(_folded(path.name + ending), ()) for ending in ENDINGS)
        found = list(itertools.chain.from_iterable(endings))
        if len(found) > 1:
            raise InputError.of(
                "file_path", path.name, f"has no ending, and {listed(found)} exist",
                "name one of them",
            )  # fmt: skip
    same = path.with_name(found[0]) if len(found) == 1 else path
    if path.name in found:
        same = path
    return same if os.path.isfile(same) else None


def _listing(folder: Path) -> Listing:
    """Names in a folder by what they have in common."""
    groups: Listing = {}
    with contextlib.suppress(OSError, ValueError):
        for name in os.listdir(folder):
            groups.setdefault(_folded(name), []).append(name)
    return groups


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _parts(name: str) -> tuple[str, ...]:
    """Folders and file of a name of Unix or Windows, without the root."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return tuple(part for part in parts if part != "/")


def _spelled(name: str, path: Path) -> str:
    """The name of a picture that was found, with the last part as it is on disk."""
    if name.endswith(path.name):
        folder = name.removesuffix(path.name)
    else:
        folder = name[: max(name.rfind("/"), name.rfind("\\")) + 1]
    return folder.replace("\\", "/") + path.name


def _distinct(names: Sequence[str], paths: Sequence[Path | None]) -> bool:
    """Whether no two names have one path."""
    known = {name: path for name, path in zip(names, paths, strict=True) if path is not None}
    return len(set(known.values())) == len(known)


def _notes(names, place: Place, first: Place, paths: Sequence[Path]) -> tuple[str, ...]:
    notes = []
    if place.dropped:
        start = "/".join(_parts(names[0])[: place.dropped])
        notes.append(f"pictures are taken from {place.path}, without the {start}/ of their names")
    elif place.path != first.path:
        notes.append(f"pictures are taken from {place.path}, as they are not in {first.path}")
    given = [(_parts(name) or ("",))[-1] for name in names]
    spelled = [
        f"{name} is {path.name}"
        for name, path in zip(given, paths, strict=True)
        if name != path.name and _folded(name) == _folded(path.name)
    ]
    if spelled:
        notes.append(
            f"{len(spelled)} pictures are spelled otherwise than in the camera file: "
            f"{listed(spelled, 3)}"
        )
    return tuple(notes)
