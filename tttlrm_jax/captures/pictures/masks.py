"""Masks beside photographs: which pixels count. They act as transparency does.

What compares pictures with photographs leaves out what `mask_path` and `dynamic_mask` hide, which
by their conventions is not known; a folder of masks cuts an object out of its background.

Three kinds are known. `mask_path` of a frame in a JSON file, and a folder `masks/` (or `mask/`)
beside the folder of pictures, with the picture's name as PNG, COLMAP's `a.jpg.png` or Metashape's
`a_mask.png`: white counts, black does not. `dynamic_mask_NAME.png` beside the picture,
instant-ngp's: what is not black moves, and does not count. A picture without mask counts whole.
"""

import dataclasses
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from tttlrm_jax.captures.pictures.images import is_transparent, open_image, to_8_bit
from tttlrm_jax.core.errors import InputError

FOLDERS = ("masks", "mask")
SUFFIXES = (".png", ".jpg", ".jpeg")
DYNAMIC = "dynamic_mask_"


@dataclasses.dataclass(frozen=True)
class MaskFile:
    """The mask of one picture; without `path` all of it counts, though others have masks."""

    path: Path | None = None
    hides: bool = False  # what is not black does not count
    origin: str = "mask_path"  # where it was found, for the note
    background: bool = False  # what does not count is background; else nothing is known of it


def apply_mask(pixels: np.ndarray, mask: MaskFile) -> np.ndarray:
    """uint8 [h, w, 4] of [h, w, 3 or 4] with the mask as alpha, or times the alpha there is.

    Raises InputError for a mask that is coloured, transparent, holds labels, or has another shape.
    """
    size = pixels.shape[:2]
    coverage = np.full(size, 255, np.uint8) if mask.path is None else coverage_of(mask, size)
    if pixels.shape[-1] == 4:
        coverage = np.rint(pixels[..., 3] * (coverage / 255.0)).astype(np.uint8)
    return np.dstack([pixels[..., :3], coverage])


def coverage_of(mask: MaskFile, size: tuple[int, int]) -> np.ndarray:
    """uint8 [h, w]; a mask of the same proportions is resized."""

    def decode(image: Image.Image) -> Image.Image:
        return _grey(mask.path, image)

    grey = open_image(mask.path, decode)  # type: ignore[arg-type]
    brightest = int(grey.getextrema()[1])  # type: ignore[arg-type]
    if mask.hides:
        grey = grey.point(lambda level: 0 if level else 255)
    elif brightest == 1:  # 0 and 1 in place of 0 and 255
        grey = grey.point(lambda level: 255 * level)
    elif 1 < brightest < 128:
        raise InputError.of(
            "mask", mask.path, f"has levels up to {brightest} of 255, as labels have",
            "write 255 where pixels count and 0 elsewhere",
        )  # fmt: skip
    height, width = size
    if grey.size != (width, height):
        if abs(grey.width * height - grey.height * width) > max(height, width, *grey.size):
            raise InputError.of(
                "mask", mask.path, f"has {grey.width}x{grey.height} pixels, and its picture "
                f"{width}x{height}", "give a mask of the picture's size",
            )  # fmt: skip
        grey = grey.resize((width, height), Image.Resampling.BOX)
    return np.asarray(grey)


def _grey(path: Path | None, image: Image.Image) -> Image.Image:
    """8-bit levels. Raises InputError where colours differ or the mask is transparent itself."""
    if image.mode.startswith("I"):  # 16 bits that hold small numbers, such as 0 and 1, are those
        levels = np.asarray(image)
        if levels.min() >= 0 and levels.max() < 256:
            return Image.fromarray(levels.astype(np.uint8))
    if image.mode in ("1", "L") or image.mode.startswith("I"):
        return to_8_bit(image).convert("L")
    pixels = np.asarray(to_8_bit(image).convert("RGBA"))
    transparent = is_transparent(image) and pixels[..., 3].min() < 255
    if transparent or np.ptp(pixels[..., :3], axis=-1).max() > 8:  # JPEG is not quite grey
        what = "is transparent itself" if transparent else "is coloured"
        raise InputError.of("mask", path, what, "write it as grey: white counts, black does not")
    return Image.fromarray(pixels[..., 0])


def find_masks(
    pictures: Sequence[Path], stated: Sequence[MaskFile | None], directory: Path
) -> tuple[list[MaskFile | None], str | None]:
    """The masks of pictures, and a note that says so: of each the `stated` one, else one beside.

    Nothing above the capture is looked at: above what `directory` and the picture share. Where no
    picture has a mask, all are None.
    """
    beside = _Beside(directory)
    found = [
        beside.mask(path) if mask is None else mask
        for path, mask in zip(pictures, stated, strict=True)
    ]
    masks = [mask for mask in found if mask is not None]
    if not masks:
        return found, None
    origins = {mask.origin for mask in masks}
    hidden = {"what is not black" if mask.hides else "black" for mask in masks}
    note = (
        f"masks of {len(masks)} of {len(found)} frames ({', '.join(sorted(origins))}) count as "
        f"transparency: {' or '.join(sorted(hidden))} is left out"
    )
    return [mask or MaskFile() for mask in found], note


class _Beside:
    """Looks for masks of one capture; remembers which folders exist."""

    def __init__(self, directory: Path):
        self._directory = os.path.abspath(directory)
        self._folders: dict[Path, bool] = {}

    def mask(self, picture: Path) -> MaskFile | None:
        picture = Path(os.path.abspath(picture))
        dynamic = picture.with_name(f"{DYNAMIC}{picture.stem}.png")
        if os.path.isfile(dynamic):
            return MaskFile(dynamic, hides=True, origin=f"{DYNAMIC}*.png")
        for folder, name in self._places(picture):
            names = [name.with_name(name.name + ".png")]  # COLMAP's
            names += [name.with_suffix(suffix) for suffix in SUFFIXES]
            names += [name.with_name(f"{name.stem}_mask{suffix}") for suffix in SUFFIXES]
            for path in (folder / each for each in names):
                if path != picture and os.path.isfile(path):
                    return MaskFile(path, origin=f"{folder.name}/", background=True)
        return None

    def _places(self, picture: Path) -> Iterator[tuple[Path, Path]]:
        """Folders of masks that exist, with the path inside that has the picture's name."""
        top = Path(os.path.commonpath([self._directory, picture]))
        for base in picture.parents:
            inner = picture.relative_to(base).parts
            size = inner[0].removeprefix("images") if inner[0].startswith("images_") else ""
            inside = Path(*inner[1:]) if len(inner) > 1 else Path(picture.name)
            for name in dict.fromkeys([FOLDERS[0] + size, *FOLDERS]):
                folder = base / name
                if self._is_folder(folder):
                    yield folder, inside
            if base == top:
                return

    def _is_folder(self, path: Path) -> bool:
        if path not in self._folders:
            self._folders[path] = os.path.isdir(path)
        return self._folders[path]
