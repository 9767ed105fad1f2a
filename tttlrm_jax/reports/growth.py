"""Frames of a film in which a reconstruction grows: what was seen, and what it gave so far.

Two or three pictures side by side, large; below them the input views, of which those not seen yet
are blank.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from tttlrm_jax.core.pictures import to_uint8
from tttlrm_jax.reports.sheet import (
    ACCENT,
    EDGE,
    FAINT,
    INK,
    MAX_CELL,
    PAPER,
    cell_size,
    fitted,
    font,
    frame,
    paste,
    shortened,
)

CELL = 320  # pixels of a picture's longer side at least
MARGIN, GAP, HEAD, CAPTION, BAR = 24, 16, 72, 30, 10
MAX_THUMBNAILS = 32  # more views than this show as a bar alone
THUMBNAIL = (28, 96)  # smallest and largest width


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

    @property
    def cell(self) -> tuple[int, int]:
        """Height and width of a large picture."""
        return cell_size(self.target.shape, CELL)


def growth_still(film: GrowthFilm, moment: GrowthMoment) -> np.ndarray:
    """A frame, uint8 [height, width, 3], whose third picture is left to `with_orbit`."""
    cell_height, cell_width = film.cell
    width = 2 * MARGIN + 3 * cell_width + 2 * GAP
    strip = _strip(film, moment, width - 2 * MARGIN)
    height = HEAD + CAPTION + cell_height + 20 + strip.height + MARGIN
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    total = film.already_seen + len(film.inputs)
    draw.text((MARGIN, 16), f"{moment.seen} of {total} views seen", INK, font(30))
    draw.text((width - MARGIN, 18), f"{moment.psnr:.2f} dB", ACCENT, font(28), anchor="ra")
    draw.text((MARGIN, 54), film.title, FAINT, font(15))
    draw.text((width - MARGIN, 54), "PSNR, mean over the targets", FAINT, font(15), anchor="ra")
    captions = (
        "reconstruction so far, held-out view", f"photograph: {film.target_name}",
        "around the scene",
    )  # fmt: skip
    for column, (caption, picture) in enumerate(
        zip(captions, (moment.rendered, film.target, None), strict=True)
    ):
        left = MARGIN + column * (cell_width + GAP)
        draw.text((left, HEAD + 10), shortened(caption, cell_width), INK, font(14))
        if picture is not None:
            paste(sheet, fitted(picture, film.cell), left, HEAD + CAPTION)
    sheet.paste(strip, (MARGIN, HEAD + CAPTION + cell_height + 20))
    return np.asarray(sheet)


def reduced(picture: np.ndarray) -> np.ndarray:
    """A picture uint8, no larger than `cell_size` lets it be shown: to be kept until then."""
    if max(picture.shape[:2]) <= MAX_CELL:
        return picture
    return fitted(picture, cell_size(picture.shape, CELL))


def with_orbit(still: np.ndarray, picture: np.ndarray, film: GrowthFilm) -> np.ndarray:
    """The frame with its third picture."""
    whole = Image.fromarray(still)
    paste(whole, fitted(picture, film.cell), MARGIN + 2 * (film.cell[1] + GAP), HEAD + CAPTION)
    return np.asarray(whole)


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
        frame(strip, left, top, thumb[::-1])
        if seen_here - moment.newest <= index < seen_here:
            frame(strip, left, top, thumb[::-1], ACCENT, 3)
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
