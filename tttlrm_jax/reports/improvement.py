"""How Gaussians improved: a curve, and a film of one view that was held back from fitting."""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image, ImageDraw

from tttlrm_jax.reports.plots import Panel, Plot, Series, line_charts
from tttlrm_jax.reports.sheet import (
    ACCENT,
    EDGE,
    FAINT,
    INK,
    PAPER,
    cell_size,
    fitted,
    font,
    paste,
    shortened,
)

CELL = 320  # pixels of a picture's longer side at least
MARGIN, GAP, HEAD, CAPTION, BAR = 24, 16, 64, 26, 10
MOST_FRAMES = 120  # moments beyond are thinned out evenly
STILL = 12  # times the last frame is shown


@dataclasses.dataclass(frozen=True, kw_only=True)
class Look:
    """One look at the views held back."""

    seconds: float
    psnr: float  # dB, mean over them
    num_gaussians: int
    size: tuple[int, int]  # height and width of the pictures that were fitted
    picture: np.ndarray  # uint8 [height, width, 3], the first of them as it was drawn


def improvement_plot(looks: Sequence[Look], title: str, subtitle: str) -> Plot:
    """PSNR on views held back and the number of Gaussians against seconds."""
    psnr = Series(name="now", values=[look.psnr for look in looks])
    best = Series(name="best so far", values=np.maximum.accumulate(psnr.values).tolist())
    count = Series(name="Gaussians", values=[float(look.num_gaussians) for look in looks])
    panels = [
        Panel(title="PSNR on input views held back", unit="dB", from_zero=False,
              series=[psnr, best]),
        Panel(title="Gaussians", unit="", series=[count]),
    ]  # fmt: skip
    seconds = [round(look.seconds, 1) for look in looks]
    return line_charts(title, subtitle, seconds, "seconds", panels)


def improvement_frames(
    looks: Sequence[Look], name: str, photograph: np.ndarray
) -> Iterator[np.ndarray]:
    """Frames uint8 [height, width, 3]: the photograph beside the view at each moment."""
    chosen = np.linspace(0, len(looks) - 1, min(len(looks), MOST_FRAMES)).round().astype(int)
    size = cell_size(photograph.shape, CELL)
    total = max(looks[-1].seconds, 1e-9)
    for index in [*chosen, *[chosen[-1]] * STILL]:
        yield _frame(looks[index], name, photograph, size, looks[index].seconds / total)


def _frame(look: Look, name: str, photograph: np.ndarray, size, share: float) -> np.ndarray:
    height, width = size
    whole = 2 * MARGIN + 2 * width + GAP, HEAD + CAPTION + height + 20 + BAR + MARGIN
    sheet = Image.new("RGB", whole, PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, 14), f"{look.seconds:.1f} s", INK, font(30))
    draw.text((whole[0] - MARGIN, 16), f"{look.psnr:.2f} dB", ACCENT, font(28), anchor="ra")
    about = f"{look.num_gaussians} Gaussians, {look.size[1]}x{look.size[0]} pixels"
    draw.text((MARGIN, 50), about, FAINT, font(14))
    held = "PSNR, mean over views held back"
    draw.text((whole[0] - MARGIN, 50), held, FAINT, font(14), anchor="ra")
    captions = (f"photograph, held back: {name}", "drawn")
    for column, (caption, picture) in enumerate(
        zip(captions, (photograph, look.picture), strict=True)
    ):
        left = MARGIN + column * (width + GAP)
        draw.text((left, HEAD + 6), shortened(caption, width), INK, font(14))
        paste(sheet, fitted(picture, size), left, HEAD + CAPTION)
    left, right, top = MARGIN, whole[0] - MARGIN - 1, whole[1] - MARGIN - BAR
    draw.rounded_rectangle((left, top, right, top + BAR - 1), BAR // 2, fill=EDGE)
    filled = left + max(round(share * (right - left)), BAR)
    draw.rounded_rectangle((left, top, filled, top + BAR - 1), BAR // 2, fill=ACCENT)
    return np.asarray(sheet)
