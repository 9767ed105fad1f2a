"""Pictures of a sequence as TTT3R takes them: upright, fitted to multiples of 16 pixels.

The rule of the published weights. Size 224: the shorter side becomes 224 and the middle square is
kept. Any other size: the longer side becomes `size`; then `crop` keeps the middle whose sides are
the largest multiples of 16 (3:4 of it where the picture is square), and `resize` squeezes the
whole picture to that size instead. `Fit` carries depth and intrinsics along.

Unlike captures with cameras, sequences are turned as their EXIF orientation says.
"""

import dataclasses
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageOps

from tttlrm_jax.captures.pictures.images import EXIF_ORIENTATION, open_image, to_8_bit
from tttlrm_jax.core.errors import InputError

FitMode = Literal["crop", "resize"]

PATCH = 16
SQUARE_SIZE = 224  # the size at which pictures become square


@dataclasses.dataclass(frozen=True)
class Fit:
    """How a picture of `source` (height, width) becomes one of `output`.

    First resized to `resized`, then cut to `output` at (top, left), or squeezed to it where
    `mode` is resize.
    """

    source: tuple[int, int]
    resized: tuple[int, int]
    output: tuple[int, int]
    corner: tuple[int, int]  # top, left in the resized picture; 0, 0 in mode resize
    mode: FitMode

    def image(self, picture: np.ndarray) -> np.ndarray:
        """Fits uint8 [height, width, 3] of the source's size."""
        shrinks = max(self.source) > max(self.resized)
        method = Image.Resampling.LANCZOS if shrinks else Image.Resampling.BICUBIC
        (high, wide), (height, width), (top, left) = self.resized, self.output, self.corner
        resized = Image.fromarray(picture).resize((wide, high), method)
        if self.mode == "resize":
            return np.asarray(resized.resize((width, height), Image.Resampling.LANCZOS))
        return np.asarray(resized.crop((left, top, left + width, top + height)))

    def window(self, height: int, width: int) -> tuple[slice, slice]:
        """The part of a map [height, width] of the same view that the output shows."""
        if self.mode == "resize":
            return slice(0, height), slice(0, width)
        slices = []
        for side, corner, kept, of in zip(
            (height, width), self.corner, self.output, self.resized, strict=True
        ):
            slices.append(slice(round(side * corner / of), round(side * (corner + kept) / of)))
        return slices[0], slices[1]

    def nearest(self, values: np.ndarray) -> np.ndarray:
        """A map [height, width] of the same view at the output's pixels, by nearest neighbour."""
        part = values[self.window(*values.shape)]
        rows, columns = (
            np.minimum((np.arange(new) + 0.5) * old / new, old - 1).astype(int)
            for new, old in zip(self.output, part.shape, strict=True)
        )
        return part[np.ix_(rows, columns)]

    def intrinsics(self, lens: np.ndarray) -> np.ndarray:
        """(fx, fy, cx, cy) [4] of the output from those of the source."""
        height, width = self.output if self.mode == "resize" else self.resized
        scale = np.array([width / self.source[1], height / self.source[0]])
        top, left = self.corner
        return np.asarray(lens, np.float64) * np.tile(scale, 2) - [0.0, 0.0, left, top]


def plan_fit(height: int, width: int, size: int = 512, mode: FitMode = "crop") -> Fit:
    """The fit of a picture. Raises InputError where no multiple of 16 pixels is left.

    A square picture in mode resize has no target size by the published rule; that is an error,
    as is a square one at a size that makes 3/4 of it no multiple of 16 (`check_patches`).
    """
    longest = max(height, width)
    target = size
    if size == SQUARE_SIZE:
        target = round(size * longest / min(height, width))
    resized = (round(height * target / longest), round(width * target / longest))
    middle = (resized[0] // 2, resized[1] // 2)
    if size == SQUARE_SIZE:
        half = (min(middle), min(middle))
    else:
        half = (2 * middle[0] // PATCH * (PATCH // 2), 2 * middle[1] // PATCH * (PATCH // 2))
        if resized[0] == resized[1]:
            if mode == "resize":
                raise InputError.of(
                    "image", f"{width}x{height}", "is square, which fit=resize has no rule for",
                    "use --fit crop or --size 224",
                )  # fmt: skip
            half = (3 * half[1] // 4, half[1])
    output = (2 * half[0], 2 * half[1])
    if min(output) < PATCH:
        raise InputError.of(
            "image", f"{width}x{height}", f"leaves no {PATCH} pixels on a side at size {size}",
            "use a larger --size or less narrow pictures",
        )  # fmt: skip
    corner = (0, 0) if mode == "resize" else (middle[0] - half[0], middle[1] - half[1])
    return Fit((height, width), resized, output, corner, mode)


def check_patches(fit: Fit) -> Fit:
    """The fit itself; raises InputError if its output is no multiple of 16 pixels."""
    if fit.output[0] % PATCH or fit.output[1] % PATCH:
        raise InputError.of(
            "size", max(fit.resized), f"makes pictures of {fit.output[1]}x{fit.output[0]} pixels, "
            f"no multiples of {PATCH}", "use a size that is a multiple of 64, or 224",
        )  # fmt: skip
    return fit


def read_upright(path: str | Path) -> np.ndarray:
    """Decodes a file to uint8 RGB [height, width, 3], turned as its EXIF orientation says."""

    def decode(image: Image.Image) -> np.ndarray:
        return np.asarray(ImageOps.exif_transpose(to_8_bit(image)).convert("RGB"))

    return open_image(path, decode)


def upright_size(path: str | Path) -> tuple[int, int]:
    """Height and width of what `read_upright` gives, from the file's header."""

    def measure(image: Image.Image) -> tuple[int, int]:
        sideways = image.getexif().get(EXIF_ORIENTATION, 1) >= 5
        return (image.width, image.height) if sideways else (image.height, image.width)

    return open_image(path, measure)
