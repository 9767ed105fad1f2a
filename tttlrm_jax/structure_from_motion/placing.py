"""Pictures where both COLMAP and captures read them: upright, by name, with their masks.

A photograph is a link to its file; where links cannot be made, a copy. One that its EXIF
orientation turns, or of a format that COLMAP does not read, is written anew. Masks keep their
conventions: `masks/NAME.png` is background, `dynamic_mask_NAME.png` hides.
"""

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from tqdm import tqdm

from tttlrm_jax.captures.pictures.images import (
    EXIF_ORIENTATION,
    exif_orientation,
    is_transparent,
    open_image,
    read_image,
    to_8_bit,
)
from tttlrm_jax.captures.pictures.masks import DYNAMIC, MaskFile, apply_mask
from tttlrm_jax.core.errors import listed
from tttlrm_jax.structure_from_motion.film_frames import chosen_frames
from tttlrm_jax.structure_from_motion.sources import Source
from tttlrm_jax.structure_from_motion.workplace import Workplace

COLMAP_READS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".ppm", ".pgm")
QUALITY = 95  # of JPEG
TURNS = {  # by EXIF orientation, what makes a picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_90,
}  # fmt: skip


def place_pictures(source: Source, place: Workplace, most: int) -> list[str]:
    """Fills `images/` and `masks/` and returns the names, in order; at most `most` of a film.

    What an earlier run has placed of the same source is taken as it is.
    """
    if "names" not in place.record:
        place.images.mkdir(exist_ok=True)
        if source.film is None:
            names, notes = _place_photographs(source, place)
        else:
            names, notes = _place_frames(source, place, most)
        place.note(names=names, notes=[*source.notes, *notes])
    return place.record["names"]


def _place_frames(source: Source, place: Workplace, most: int) -> tuple[list[str], list[str]]:
    numbers, frames = chosen_frames(source.path, most)
    names = []
    for frame in tqdm(frames, "taking frames of the film", len(numbers), unit=" frames"):
        names.append(f"{frame.name}.jpg")
        picture = Image.fromarray(frame.image)
        picture.save(place.images / names[-1], quality=QUALITY, subsampling=0)
    return names, [
        f"{len(names)} frames of the film, the sharpest of each part of the way, are its pictures"
    ]


def _place_photographs(source: Source, place: Workplace) -> tuple[list[str], list[str]]:
    names, written = [], []
    for path, mask in zip(source.pictures, source.masks, strict=True):
        turn = exif_orientation(path)
        plain = turn not in TURNS and path.suffix.lower() in COLMAP_READS
        name = _fitting(path, names)
        if plain:
            _link(path, place.images / name)
        else:
            _write_upright(path, place.images / name)
            written.append(path.name)
        if mask is not None and mask.path is not None:
            _place_mask(mask, TURNS.get(turn), place, name)
        names.append(name)
    notes = [f"{len(written)} pictures are upright copies: {listed(written, 4)}"] if written else []
    return names, notes


def _fitting(path: Path, taken: Sequence[str]) -> str:
    """A name as COLMAP reads it in lists of pairs: no blanks, no # at the front; not `taken`."""
    suffix = path.suffix if path.suffix.lower() in COLMAP_READS else ".png"
    stem = re.sub(r"\s|^#", "_", path.stem)
    while f"{stem}{suffix}" in taken:
        stem += "_"
    return f"{stem}{suffix}"


def _link(path: Path, link: Path) -> None:
    if os.path.lexists(link):
        link.unlink()
    try:
        link.symlink_to(path)
    except OSError:  # of systems and disks without links
        shutil.copyfile(path, link)


def _write_upright(path: Path, target: Path) -> None:
    """EXIF is kept, without its orientation: COLMAP reads the focal length there."""

    def decode(image: Image.Image) -> tuple[Image.Image, Image.Exif]:
        mode = "RGBA" if is_transparent(image) else "RGB"
        upright = ImageOps.exif_transpose(to_8_bit(image)).convert(mode)
        exif = image.getexif()
        exif.pop(EXIF_ORIENTATION, None)
        return upright, exif

    picture, exif = open_image(path, decode)
    picture.save(target, exif=exif.tobytes(), quality=QUALITY)  # which PNG does not read


def _place_mask(mask: MaskFile, turn: Image.Transpose | None, place: Workplace, name: str) -> None:
    assert mask.path is not None
    target = place.masks / f"{name}.png"
    if mask.hides:
        target = place.images / f"{DYNAMIC}{Path(name).stem}.png"
    target.parent.mkdir(exist_ok=True)
    if turn is None:
        _link(mask.path, target)
    else:
        open_image(mask.path, lambda image: to_8_bit(image).transpose(turn)).save(target)


def write_feature_masks(place: Workplace, names: Sequence[str]) -> Path | None:
    """A folder with `NAME.png` for every picture, white where features count; None without masks.

    Both masks and transparency count. Raises InputError for a mask that cannot be used.
    """
    files = [_mask_of(place, name) for name in names]
    pictures = [place.images / name for name in names]
    if not any(files) and not any(open_image(path, is_transparent) for path in pictures):
        return None
    folder = place.work / "masks"
    folder.mkdir(exist_ok=True)
    for path, mask in tqdm(list(zip(pictures, files, strict=True)), "masks", unit=" pictures"):
        pixels = apply_mask(read_image(path), mask or MaskFile())
        counts = np.where(pixels[..., 3] >= 128, 255, 0).astype(np.uint8)
        Image.fromarray(counts).save(folder / f"{path.name}.png")
    return folder


def _mask_of(place: Workplace, name: str) -> MaskFile | None:
    hiding = place.images / f"{DYNAMIC}{Path(name).stem}.png"
    if hiding.is_file():
        return MaskFile(hiding, hides=True)
    mask = place.masks / f"{name}.png"
    return MaskFile(mask) if mask.is_file() else None
