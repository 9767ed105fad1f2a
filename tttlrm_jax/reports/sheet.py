"""Sheets of pictures with captions, for films and PNG files: their colours, fonts and fitting.

Small pictures are shown at whole multiples of their size, so that single pixels stay visible; only
larger ones are reduced (Lanczos).
"""

import functools
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tttlrm_jax.core.pictures import enlarge, enlargement, to_uint8

PAPER, INK, FAINT, EDGE, ACCENT = "#f7f6f2", "#1b1c20", "#6b6c74", "#d6d4ce", "#0f766e"
MAX_CELL = 420  # pixels of a picture's longer side at most


@functools.cache
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font."""
    return ImageFont.load_default(size)


def cell_size(shape: Sequence[int], least: int) -> tuple[int, int]:
    """Height and width in which a picture of this shape is shown: a whole factor that brings its
    longer side to `least` pixels, or reduced to `MAX_CELL`."""
    height, width = shape[:2]
    longer = max(height, width)
    if longer > MAX_CELL:
        ratio = MAX_CELL / longer
        return max(1, round(height * ratio)), max(1, round(width * ratio))
    factor = enlargement(height, width, least)
    return height * factor, width * factor


def fitted(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A picture in [0, 1] or uint8 as uint8 of (height, width): enlarged by pixels, or resized."""
    pixels = to_uint8(picture)
    factor = size[0] // pixels.shape[0]
    if factor and (pixels.shape[0] * factor, pixels.shape[1] * factor) == size:
        return enlarge(pixels, factor)
    resized = Image.fromarray(pixels).resize((size[1], size[0]), Image.Resampling.LANCZOS)
    return np.asarray(resized)


def paste(sheet: Image.Image, picture: np.ndarray, left: int, top: int) -> None:
    """Puts a uint8 picture on the sheet, with a hairline: white would melt into the paper."""
    sheet.paste(Image.fromarray(picture), (left, top))
    frame(sheet, left, top, picture.shape[:2])


def frame(
    sheet: Image.Image,
    left: int,
    top: int,
    size: tuple[int, ...],
    colour: str = EDGE,
    width: int = 1,
) -> None:
    """An outline within a place of (height, width)."""
    box = (left, top, left + size[1] - 1, top + size[0] - 1)
    ImageDraw.Draw(sheet).rectangle(box, outline=colour, width=width)


def shortened(text: str, width: int) -> str:
    """The text, its middle cut out where it is wider than so many pixels at size 14."""
    if font(14).getlength(text) <= width:
        return text
    head, tail = text[: len(text) // 2], text[len(text) // 2 :]
    while len(head) > 1 and font(14).getlength(head + "..." + tail) > width:
        head, tail = (head[:-1], tail) if len(head) >= len(tail) else (head, tail[1:])
    return head + "..." + tail
