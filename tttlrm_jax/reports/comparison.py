"""One picture that shows a reconstruction: input views, then target, ours, error, baseline."""

import dataclasses

import numpy as np
from PIL import Image, ImageDraw

from tttlrm_jax.reports.heatmap import absolute_error, error_scale, heat
from tttlrm_jax.reports.page import count
from tttlrm_jax.reports.sheet import FAINT, INK, PAPER, cell_size, fitted, font, paste, shortened

CELL = 300  # pixels a picture's longer side shall at least have
MARGIN, GAP, CAPTION = 28, 12, 24
MAX_INPUTS, MAX_VIEWS = 16, 6
COLUMNS = ("target", "ours", "error", "nearest input view")
BEFORE = "before refinement"  # a column after ours, where there was one


@dataclasses.dataclass(frozen=True, kw_only=True)
class ComparedView:
    """One target view: images [height, width, 3] in [0, 1] and their scores."""

    name: str
    target: np.ndarray
    rendered: np.ndarray
    baseline: np.ndarray
    psnr: float  # dB
    ssim: float
    baseline_psnr: float  # dB
    before: np.ndarray | None = None  # ours before refinement on the inputs
    before_psnr: float | None = None  # dB


def representative(scores, count: int) -> list[int]:
    """At most `count` indices: all in order if they fit, else evenly from best to worst."""
    if len(scores) <= count:
        return list(range(len(scores)))
    order = np.argsort(-np.nan_to_num(np.asarray(scores, np.float64), nan=-np.inf), kind="stable")
    return [int(order[round(step)]) for step in np.linspace(0, len(scores) - 1, count)]


def comparison_sheet(
    title: str, subtitle: str, inputs: np.ndarray, views: list[ComparedView]
) -> np.ndarray:
    """The sheet as uint8 [height, width, 3].

    `inputs` are [view, height, width, 3] in [0, 1]. More inputs or views than the maxima are
    thinned out: inputs evenly, views evenly from best to worst; captions say so.
    """
    shown = [views[index] for index in representative([v.psnr for v in views], MAX_VIEWS)]
    scale = error_scale([absolute_error(view.rendered, view.target) for view in views])
    cell_height, cell_width = cell_size(views[0].target.shape, CELL)
    names = column_names(views)
    width = 2 * MARGIN + len(names) * cell_width + (len(names) - 1) * GAP
    strip = _input_strip(inputs, width - 2 * MARGIN)
    head = MARGIN + 84
    grid_top = head + strip.height + CAPTION + 24
    height = grid_top + len(shown) * (cell_height + CAPTION + GAP) + MARGIN + CAPTION
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, MARGIN - 4), title, INK, font(26))
    draw.text((MARGIN, MARGIN + 32), subtitle, FAINT, font(15))
    draw.text((MARGIN, head - 22), _inputs_caption(len(inputs)), INK, font(15))
    sheet.paste(strip, (MARGIN, head))
    columns = [MARGIN + column * (cell_width + GAP) for column in range(len(names))]
    for left, name in zip(columns, names, strict=True):
        draw.text((left, grid_top - 24), name, INK, font(15))
    for row, view in enumerate(shown):
        top = grid_top + row * (cell_height + CAPTION + GAP)
        _draw_view(sheet, draw, view, columns, top, (cell_height, cell_width), scale)
    left = columns[names.index("error")]
    _draw_colour_bar(sheet, draw, left, height - MARGIN - CAPTION, cell_width, scale)
    if len(shown) < len(views):
        note = f"{len(shown)} of {len(views)} target views, from best to worst PSNR"
        draw.text((MARGIN, height - MARGIN - CAPTION), note, FAINT, font(14))
    return np.asarray(sheet)


def column_names(views: list[ComparedView]) -> list[str]:
    """Of the pictures of a view, in order."""
    refined = views[0].before is not None
    return [*COLUMNS[:2], *([BEFORE] if refined else []), *COLUMNS[2:]]


def _inputs_caption(number: int) -> str:
    views = count(number, "input view")
    return views if number <= MAX_INPUTS else f"{views} ({MAX_INPUTS} shown)"


def _input_strip(inputs: np.ndarray, width: int) -> Image.Image:
    """Input views side by side, wrapped after eight."""
    if len(inputs) > MAX_INPUTS:
        inputs = inputs[np.linspace(0, len(inputs) - 1, MAX_INPUTS).round().astype(int)]
    per_row = min(len(inputs), 8) if len(inputs) > 4 else 6
    cell = (width - (per_row - 1) * GAP) // per_row
    height, image_width = inputs.shape[1:3]
    factor = cell // image_width
    cell = image_width * factor if factor >= 1 else cell
    cell_height = max(1, round(cell * height / image_width))
    rows = -(-len(inputs) // per_row)
    strip = Image.new("RGB", (width, rows * (cell_height + GAP) - GAP), PAPER)
    for index, image in enumerate(inputs):
        row, column = divmod(index, per_row)
        picture = fitted(image, (cell_height, cell))
        paste(strip, picture, column * (cell + GAP), row * (cell_height + GAP))
    return strip


def _draw_view(sheet, draw, view: ComparedView, columns, top, size, scale) -> None:
    error = absolute_error(view.rendered, view.target)
    pictures = [view.target, view.rendered, heat(error, scale), view.baseline]
    captions = [
        view.name,
        f"{view.psnr:.2f} dB   SSIM {view.ssim:.3f}",
        f"mean |error| {error.mean():.3f}",
        f"{view.baseline_psnr:.2f} dB",
    ]
    if view.before is not None:
        pictures.insert(2, view.before)
        captions.insert(2, f"{view.before_psnr:.2f} dB")
    for left, picture, caption in zip(columns, pictures, captions, strict=True):
        paste(sheet, fitted(picture, size), left, top)
        draw.text((left, top + size[0] + 4), shortened(caption, size[1]), FAINT, font(14))


def _draw_colour_bar(sheet, draw, left: int, top: int, width: int, scale: float) -> None:
    ramp = np.linspace(0, scale, width)[None].repeat(12, axis=0)
    sheet.paste(Image.fromarray(heat(ramp, scale)), (left, top))
    draw.text((left, top + 15), "0", FAINT, font(13))
    middle = f"mean |error| of R, G, B: {scale / 2:g}"
    draw.text((left + width / 2, top + 15), middle, FAINT, font(13), anchor="ma")
    draw.text((left + width, top + 15), f"{scale:g}", FAINT, font(13), anchor="ra")
