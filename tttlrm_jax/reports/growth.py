"""Frames of a film in which a reconstruction grows: what was seen, and what it gave so far.

Two or three pictures side by side, large; below them the input views, of which those not seen yet
are blank.
"""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tttlrm_jax.core.pictures import enlarge, enlargement, to_uint8

CELL, MAX_CELL = 320, 420  # pixels of a picture's longer side: at least, at most
MARGIN, GAP, HEAD, CAPTION, BAR = 24, 16, 72, 30, 10
MAX_THUMBNAILS = 32  # more views than this show as a bar alone
THUMBNAIL = (28, 96)  # smallest and largest width
PAPER, INK, FAINT, EDGE, ACCENT = "#f7f6f2", "#1b1c20", "#6b6c74", "#d6d4ce", "#0f766e"


@dataclasses.dataclass(frozen=True, kw_only=True)
class GrowthMoment:
    """What is shown of the time after one chunk; pictures [height, width, 3] in [0, 1]."""

    seen: int  # views so far
    newest: int  # of them in the last chunk
    psnr: float  # dB, mean over the targets
    rendered: np.ndarray  # the target view, from what was seen so far


@dataclasses.dataclass(frozen=True, kw_only=True)
class GrowthFilm:
    """What stays the same through the film."""

    title: str
    target_name: str
    target: np.ndarray  # [height, width, 3] in [0, 1]
    inputs: Sequence[np.ndarray]  # in the order of the stream
    already_seen: int = 0  # views that came before the first of `inputs`


def cell_size(height: int, width: int) -> tuple[int, int]:
    """Height and width of one of the large pictures: a whole factor, or reduced."""
    longer = max(height, width)
    if longer > MAX_CELL:
        ratio = MAX_CELL / longer
        return max(1, round(height * ratio)), max(1, round(width * ratio))
    factor = enlargement(height, width, CELL)
    return height * factor, width * factor


def growth_still(film: GrowthFilm, moment: GrowthMoment) -> np.ndarray:
    """A frame, uint8 [height, width, 3], whose third picture is left to `with_orbit`."""
    cell_height, cell_width = cell_size(*film.target.shape[:2])
    width = 2 * MARGIN + 3 * cell_width + 2 * GAP
    strip = _strip(film, moment, width - 2 * MARGIN)
    height = HEAD + CAPTION + cell_height + 20 + strip.height + MARGIN
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    total = film.already_seen + len(film.inputs)
    draw.text((MARGIN, 16), f"{moment.seen} of {total} views seen", INK, _font(30))
    draw.text((width - MARGIN, 18), f"{moment.psnr:.2f} dB", ACCENT, _font(28), anchor="ra")
    draw.text((MARGIN, 54), film.title, FAINT, _font(15))
    draw.text((width - MARGIN, 54), "PSNR, mean over the targets", FAINT, _font(15), anchor="ra")
    captions = (
        "reconstruction so far, held-out view", f"photograph: {film.target_name}",
        "around the scene",
    )  # fmt: skip
    for column, (caption, picture) in enumerate(
        zip(captions, (moment.rendered, film.target, None), strict=True)
    ):
        left = MARGIN + column * (cell_width + GAP)
        draw.text((left, HEAD + 10), _fitting(caption, cell_width), INK, _font(14))
        if picture is not None:
            image = Image.fromarray(large_picture(picture, film))
            sheet.paste(image, (left, HEAD + CAPTION))
            _frame(draw, left, HEAD + CAPTION, image.size)
    sheet.paste(strip, (MARGIN, HEAD + CAPTION + cell_height + 20))
    return np.asarray(sheet)


def large_picture(picture: np.ndarray, film: GrowthFilm) -> np.ndarray:
    """A picture as it is shown beside the target, uint8: enlarged by pixels, or reduced."""
    height, width = cell_size(*film.target.shape[:2])
    pixels = to_uint8(picture)
    factor = height // pixels.shape[0]
    if factor and (pixels.shape[0] * factor, pixels.shape[1] * factor) == (height, width):
        return enlarge(pixels, factor)
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))


def reduced(picture: np.ndarray) -> np.ndarray:
    """A picture uint8, no larger than `cell_size` lets it be shown: to be kept until then."""
    height, width = picture.shape[:2]
    if max(height, width) <= MAX_CELL:
        return picture
    height, width = cell_size(height, width)
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS))


def with_orbit(still: np.ndarray, picture: np.ndarray, film: GrowthFilm) -> np.ndarray:
    """The frame with its third picture."""
    cell_height, cell_width = cell_size(*film.target.shape[:2])
    left, top = MARGIN + 2 * (cell_width + GAP), HEAD + CAPTION
    frame = Image.fromarray(still)
    frame.paste(Image.fromarray(large_picture(picture, film)), (left, top))
    _frame(ImageDraw.Draw(frame), left, top, (cell_width, cell_height))
    return np.asarray(frame)


@functools.cache
def _font(size: int):
    return ImageFont.load_default(size)


def _fitting(text: str, width: int) -> str:
    """The text, its middle cut out where it is too wide."""
    if _font(14).getlength(text) <= width:
        return text
    head, tail = text[: len(text) // 2], text[len(text) // 2 :]
    while len(head) > 1 and _font(14).getlength(head + "..." + tail) > width:
        head, tail = (head[:-1], tail) if len(head) >= len(tail) else (head, tail[1:])
    return head + "..." + tail


def _frame(draw: ImageDraw.ImageDraw, left: int, top: int, size: tuple[int, int]) -> None:
    """A hairline around a picture."""
    draw.rectangle((left, top, left + size[0] - 1, top + size[1] - 1), outline=EDGE)


def _strip(film: GrowthFilm, moment: GrowthMoment, width: int) -> Image.Image:
    """Input views in a row or two over a bar of progress."""
    count = len(film.inputs)
    seen_here = moment.seen - film.already_seen
    rows, thumb = _thumbnail_rows(film, width)
    step = thumb[1] + 6
    height = rows * step + BAR + 4
    strip = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(strip)
    per_row = -(-count // rows) if rows else 0
    for index in range(count if rows else 0):
        row, column = divmod(index, per_row)
        left, top = column * (thumb[0] + 6), row * step
        if index < seen_here:
            image = Image.fromarray(to_uint8(film.inputs[index]))
            strip.paste(image.resize(thumb, Image.Resampling.BILINEAR), (left, top))
        _frame(draw, left, top, thumb)
        if seen_here - moment.newest <= index < seen_here:
            box = (left, top, left + thumb[0] - 1, top + thumb[1] - 1)
            draw.rectangle(box, outline=ACCENT, width=3)
    top = height - BAR
    draw.rounded_rectangle((0, top, width - 1, height - 1), BAR // 2, fill=EDGE)
    share = moment.seen / max(film.already_seen + count, 1)
    filled = max(round(share * width), BAR)
    draw.rounded_rectangle((0, top, filled - 1, height - 1), BAR // 2, fill=ACCENT)
    return strip


def _thumbnail_rows(film: GrowthFilm, width: int) -> tuple[int, tuple[int, int]]:
    """Rows (0: none fit) and the width and height of a thumbnail."""
    count = len(film.inputs)
    if not 0 < count <= MAX_THUMBNAILS:
        return 0, (0, 0)
    rows = 1 if count <= 16 else 2
    per_row = -(-count // rows)
    across = min((width + 6) // per_row - 6, THUMBNAIL[1])
    if across < THUMBNAIL[0]:
        return 0, (0, 0)
    height, image_width = film.inputs[0].shape[:2]
    return rows, (across, max(1, round(across * height / image_width)))
