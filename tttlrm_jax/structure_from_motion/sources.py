"""What cameras are looked for of: a folder of photographs, or a film."""

import dataclasses
import hashlib
from pathlib import Path

from tttlrm_jax.captures.beside import map_word
from tttlrm_jax.captures.forms.table import form_of, holds_cameras
from tttlrm_jax.captures.pictures.masks import FOLDERS as MASK_FOLDERS
from tttlrm_jax.captures.pictures.masks import MaskFile, find_masks
from tttlrm_jax.captures.pictures.paths import scene_name
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.files.natural_order import natural_order
from tttlrm_jax.sequences.picture_folders import (
    IMAGE_FOLDERS,
    PictureFolder,
    find_pictures,
    is_image,
    pictures_in,
    what_lies_there,
)
from tttlrm_jax.sequences.sequence import FrameSelection
from tttlrm_jax.sequences.sequence import Sequence as Film
from tttlrm_jax.sequences.videos import open_video

MIN_PICTURES = 3


@dataclasses.dataclass(frozen=True)
class Source:
    """Photographs in natural order with their masks, or a film, which has none of both here."""

    name: str
    path: Path  # absolute: the folder of the photographs, or the film
    pictures: tuple[Path, ...] = ()
    masks: tuple[MaskFile | None, ...] = ()
    film: Film | None = None
    notes: tuple[str, ...] = ()

    def digest(self, settings: str) -> str:
        """SHA-256 of names and contents of all files, and of what else decides the cameras."""
        found = hashlib.sha256(settings.encode())
        masks = [mask.path for mask in self.masks if mask is not None and mask.path is not None]
        for path in (*self.pictures, *masks) if self.film is None else (self.path,):
            with path.open("rb") as file:
                found.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
        return found.hexdigest()


def find_source(path: str | Path) -> Source:
    """What a path names. Raises InputError where it is neither a folder of three photographs or
    more nor a film that can be decoded."""
    path = Path(path)
    if not path.exists():
        raise InputError.of("capture", path, "does not exist", "name a folder or a video")
    if path.is_dir():
        return _of_folder(path)
    if form_of(path) is not None:
        raise InputError.of(
            "capture", path, "is a file of cameras", "name the folder of the photographs"
        )
    if is_image(path):
        raise InputError.of(
            "capture", path, "is one picture, whose camera cannot be found",
            f"give a folder of {MIN_PICTURES} pictures or more, or a video",
        )  # fmt: skip
    film = open_video(path, FrameSelection())
    return Source(path.stem, path.absolute(), film=film, notes=film.notes)


def _of_folder(root: Path) -> Source:
    found = find_pictures(root)
    if not found.pictures:
        found = _only_folder_below(root)
    if len(found.pictures) < MIN_PICTURES:
        raise InputError.of(
            "pictures", len(found.pictures), f"in {root} are too few to find their cameras"
            f"{what_lies_there(root)}", f"give {MIN_PICTURES} or more that overlap",
        )  # fmt: skip
    pictures = tuple(path.absolute() for path in found.pictures)
    masks, note = find_masks(pictures, [None] * len(pictures), root.absolute())
    inner = root.resolve().name in IMAGE_FOLDERS
    name = scene_name(root.resolve().parent if inner else root)
    notes = (*found.notes, *([] if note is None else [note]))
    return Source(name or "scene", found.folder.absolute(), pictures, tuple(masks), notes=notes)


def _only_folder_below(root: Path) -> PictureFolder:
    """The pictures of the one folder inside that has some; masks, maps and captures apart."""
    folders = natural_order(path for path in root.iterdir() if path.is_dir())
    shown = (path for path in folders if path.name not in MASK_FOLDERS and not map_word(path))
    found = [each for each in map(pictures_in, shown) if len(each.pictures) > 1]
    found = [each for each in found if not holds_cameras(each.folder)]
    return found[0] if len(found) == 1 else PictureFolder(root, [])
