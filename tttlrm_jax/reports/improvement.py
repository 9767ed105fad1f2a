"""How Gaussians improved: a curve, and a film of one view that was held back from fitting."""

from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image, ImageDraw

from tttlrm_jax.per_scene.anytime import Moment
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


def improvement_plot(moments: Sequence[Moment], title: str, subtitle: str) -> Plot:
    """PSNR on views held back, of which there are some, and the number of Gaussians."""
    now = [moment.psnr for moment in moments if moment.psnr is not None]
    psnr = Series(name="now", values=now)
    best = Series(name="best so far", values=np.maximum.accumulate(now).tolist())
    count = Series(name="Gaussians", values=[float(moment.num_gaussians) for moment in moments])
    panels = [
        Panel(title="PSNR on input views held back", unit="dB", from_zero=False,
              series=[psnr, best]),
        Panel(title="Gaussians", unit="", series=[count]),
    ]  # fmt: skip
    seconds = [round(moment.seconds, 1) for moment in moments]
    return line_charts(title, subtitle, seconds, "seconds", panels)


def improvement_frames(
    moments: Sequence[Moment], name: str, photograph: np.ndarray
) -> Iterator[np.ndarray]:
    """Frames uint8 [height, width, 3]: the photograph beside the view at each moment."""
    chosen = np.linspace(0, len(moments) - 1, min(len(moments), MOST_FRAMES)).round().astype(int)
    size = cell_size(photograph.shape, CELL)
    total = max(moments[-1].seconds, 1e-9)
    for index in [*chosen, *[chosen[-1]] * STILL]:
        yield _frame(moments[index], name, photograph, size, moments[index].seconds / total)


def _frame(moment: Moment, name: str, photograph: np.ndarray, size, share: float) -> np.ndarray:
    assert moment.picture is not None  # where views are held back
    height, width = size
    whole = 2 * MARGIN + 2 * width + GAP, HEAD + CAPTION + height + 20 + BAR + MARGIN
    sheet = Image.new("RGB", whole, PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, 14), f"{moment.seconds:.1f} s", INK, font(30))
    draw.text((whole[0] - MARGIN, 16), f"{moment.psnr:.2f} dB", ACCENT, font(28), anchor="ra")
    about = f"{moment.num_gaussians} Gaussians, {moment.size[1]}x{moment.size[0]} pixels"
    draw.text((MARGIN, 50), about, FAINT, font(14))
    held = "PSNR, mean over views held back"
    draw.text((whole[0] - MARGIN, 50), held, FAINT, font(14), anchor="ra")
    captions = (f"photograph, held back: {name}", "drawn")
    for column, (caption, picture) in enumerate(
        zip(captions, (photograph, moment.picture), strict=True)
    ):
        left = MARGIN + column * (width + GAP)
        draw.text((left, HEAD + 6), shortened(caption, width), INK, font(14))
        paste(sheet, fitted(picture, size), left, HEAD + CAPTION)
    left, right, top = MARGIN, whole[0] - MARGIN - 1, whole[1] - MARGIN - BAR
    draw.rounded_rectangle((left, top, right, top + BAR - 1), BAR // 2, fill=EDGE)
    filled = left + max(round(share * (right - left)), BAR)
    draw.rounded_rectangle((left, top, filled, top + BAR - 1), BAR // 2, fill=ACCENT)
    return np.asarray(sheet)
