"""Line charts that share one horizontal axis, drawn with Pillow: no plotting library needed."""

import dataclasses
import functools
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tttlrm_jax.core.errors import InputError

PAPER, CARD, INK, FAINT, GRID = "#f7f6f2", "#ffffff", "#1b1c20", "#6b6c74", "#e6e4dd"
COLOURS = ("#0f766e", "#c2410c", "#4f46a5", "#8a8880", "#b91c5c", "#1d4ed8")
SHARP = 2  # pixels of the picture per unit of length below
DASH, DASH_GAP = 9, 7  # along a dashed line
SMOOTH = 2  # times more while drawing: Pillow's lines have hard edges
WIDTH, PLOT_HEIGHT = 1000, 190
MARGIN, LEFT, RIGHT, HEAD, PANEL_HEAD, FOOT = 28, 96, 40, 76, 40, 54
MAX_LABELS = 17  # numbers along the horizontal axis
TICKS = 4  # intervals wanted on a vertical axis


@dataclasses.dataclass(frozen=True, kw_only=True)
class Series:
    """One line; values that are not finite are gaps."""

    name: str
    values: Sequence[float]
    spread: Sequence[float] | None = None  # a bar of +- so much at every value
    colour: str | None = None  # else the next of COLOURS
    dashed: bool = False  # shows what lies below it
    offset: float = 0.0  # to the right, in units of the picture: bars side by side


@dataclasses.dataclass(frozen=True, kw_only=True)
class Panel:
    """One chart: a title, the unit of its vertical axis and its lines."""

    title: str
    unit: str
    series: Sequence[Series]
    from_zero: bool = True  # the axis begins at 0, so that heights compare
    zero_line: bool = False  # for values of both signs: the axis holds 0, and a line marks it


def line_charts(
    title: str,
    subtitle: str,
    x: Sequence[float],
    x_label: str,
    panels: Sequence[Panel],
    *,
    log_x: bool = False,
    plot_height: float = PLOT_HEIGHT,
) -> np.ndarray:
    """The charts one below the other, uint8 [height, width, 3]; `x` ascends.

    Later series lie above earlier ones. `plot_height` is that of one chart, in thousandths of the
    picture's width. With `log_x` equal ratios of `x`, all above 0, are equally far apart. Raises
    InputError where a series or its spread is not as long as `x`, and for more series than there
    are colours.
    """
    for panel in panels:
        if len(panel.series) > len(COLOURS):
            raise InputError.of(
                f"panel {panel.title}: series", len(panel.series),
                f"are more than the {len(COLOURS)} colours", "draw fewer",
            )  # fmt: skip
        for series in panel.series:
            _check_length(series.name, series.values, len(x))
            if series.spread is not None:
                _check_length(f"{series.name}, spread", series.spread, len(x))
    height = HEAD + len(panels) * (PANEL_HEAD + plot_height) + FOOT
    canvas = Canvas(WIDTH, height)
    canvas.text((MARGIN, 22), title, INK, 24)
    canvas.text((MARGIN, 52), subtitle, FAINT, 14)
    along = _Axis.over(x, (LEFT, WIDTH - RIGHT), log_x)
    for number, panel in enumerate(panels):
        top = HEAD + number * (PANEL_HEAD + plot_height)
        _draw_panel(canvas, panel, x, along, (top, top + PANEL_HEAD + plot_height))
    bottom = height - FOOT
    for value in x_positions(x):
        canvas.text((along(value), bottom + 8), f"{value:g}", FAINT, 13, "ma")
    canvas.text(((LEFT + WIDTH - RIGHT) / 2, bottom + 28), x_label, INK, 14, "ma")
    return canvas.picture()


def _check_length(name: str, values: Sequence[float], expected: int) -> None:
    if len(values) != expected or not expected:
        raise InputError.of(
            f"series {name}: length", len(values), f"is not that of the {expected} positions",
            "give one value per position",
        )  # fmt: skip


def nice_ticks(low: float, high: float, wanted: int = TICKS) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten that enclose [low, high]."""
    if high <= low:
        high = low + max(abs(low), 1.0)
    raw = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if raw <= factor * power * (1 + 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 12) for index in range(first, max(last, first + 1) + 1)]


def label(value: float, step: float) -> str:
    """A tick with as many decimals as its axis needs."""
    return f"{value:.{max(0, -math.floor(math.log10(step) + 1e-9))}f}"


def x_positions(x: Sequence[float]) -> list[float]:
    """Which positions get a number: all, or evenly chosen ones with both ends."""
    if len(x) <= MAX_LABELS:
        return list(x)
    chosen = np.linspace(0, len(x) - 1, MAX_LABELS).round().astype(int)
    return [x[index] for index in chosen]


@dataclasses.dataclass(frozen=True)
class _Axis:
    """Maps values to places in the picture."""

    low: float
    high: float
    places: tuple[float, float]
    log: bool = False

    @classmethod
    def over(
        cls, values: Sequence[float], places: tuple[float, float], log: bool = False
    ) -> "_Axis":
        low, high = min(values), max(values)
        low, high = (math.log(low), math.log(high)) if log else (low, high)
        return cls(*((low, high) if high > low else (low - 1, high + 1)), places, log)

    def __call__(self, value: float) -> float:
        value = math.log(value) if self.log else value
        share = (value - self.low) / (self.high - self.low)
        return self.places[0] + share * (self.places[1] - self.places[0])


@functools.cache
def _font(size: int):
    return ImageFont.load_default(size)


class Canvas:
    """A picture that is drawn large and reduced at the end."""

    def __init__(self, width: float, height: float):
        self._size = (round(width * SHARP), round(height * SHARP))
        self._scale = SHARP * SMOOTH
        large = (self._size[0] * SMOOTH, self._size[1] * SMOOTH)
        self._image = Image.new("RGB", large, PAPER)
        self._draw = ImageDraw.Draw(self._image)

    def _at(self, points) -> list[tuple[float, float]]:
        return [(x * self._scale, y * self._scale) for x, y in points]

    def text(self, place, text: str, colour: str, size: int, anchor: str = "la") -> None:
        font = _font(size * self._scale)
        self._draw.text(self._at([place])[0], text, colour, font, anchor=anchor)

    def text_width(self, text: str, size: int) -> float:
        return _font(size * self._scale).getlength(text) / self._scale

    def line(self, points, colour: str, width: float) -> None:
        thick = round(width * self._scale)
        self._draw.line(self._at(points), colour, thick, joint="curve")

    def dashes(self, points, colour: str, width: float) -> None:
        for dash in dash_points(points, DASH, DASH_GAP):
            self.line(dash, colour, width)

    def dot(self, place, radius: float, colour: str) -> None:
        x, y = place
        box = self._at([(x - radius, y - radius), (x + radius, y + radius)])
        self._draw.ellipse([*box[0], *box[1]], fill=colour)

    def card(self, left: float, top: float, right: float, bottom: float) -> None:
        box = self._at([(left, top), (right, bottom)])
        self._draw.rectangle([*box[0], *box[1]], fill=CARD)

    def picture(self) -> np.ndarray:
        return np.asarray(self._image.resize(self._size, Image.Resampling.BOX))


def dash_points(
    points: Sequence[tuple[float, float]], dash: float, gap: float
) -> list[list[tuple[float, float]]]:
    """Pieces of a broken line, each of length `dash` (the last at most), `gap` apart along it."""
    corners = np.asarray(points, float)
    lengths = np.linalg.norm(np.diff(corners, axis=0), axis=1)
    walked = np.concatenate([[0.0], np.cumsum(lengths)])
    pieces = []
    for start in np.arange(0.0, walked[-1], dash + gap):
        end = min(start + dash, walked[-1])
        inside = walked[(walked > start) & (walked < end)]
        stops = np.concatenate([[start], inside, [end]])
        x, y = (np.interp(stops, walked, corners[:, axis]) for axis in (0, 1))
        pieces.append(list(zip(x.tolist(), y.tolist(), strict=True)))
    return pieces


def _draw_panel(
    canvas: Canvas, panel: Panel, x: Sequence[float], along: _Axis, rows: tuple[float, float]
) -> None:
    """Title and legend, grid with numbers, then the lines, between two heights."""
    top, upper, lower = rows[0], rows[0] + PANEL_HEAD, rows[1] - 14
    values = [v for series in panel.series for bar in _bars(series) for v in bar]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if panel.zero_line:
        low, high = min(low, 0.0), max(high, 0.0)
    from_zero = panel.from_zero and not panel.zero_line
    ticks = nice_ticks(0.0 if from_zero else low, high)
    upward = _Axis(ticks[0], ticks[-1], (lower, upper))
    canvas.card(LEFT, upper, WIDTH - RIGHT, lower)
    for tick in ticks:
        colour, width = (FAINT, 1.4) if panel.zero_line and tick == 0 else (GRID, 1)
        canvas.line([(LEFT, upward(tick)), (WIDTH - RIGHT, upward(tick))], colour, width)
        canvas.text((LEFT - 10, upward(tick)), label(tick, ticks[1] - ticks[0]), FAINT, 13, "rm")
    heading = f"{panel.title}, {panel.unit}"
    canvas.text((LEFT, top + 14), heading, INK, 15)
    _draw_legend(canvas, panel, top + 23)
    for series, colour in _coloured(panel):
        _draw_series(canvas, series, colour, x, along, upward)


def _draw_series(
    canvas: Canvas, series: Series, colour: str, x: Sequence[float], along: _Axis, upward: _Axis
) -> None:
    """A line with a dot and perhaps a bar per value."""
    if series.spread is not None:
        for place, bar in zip(x, _bars(series), strict=True):
            if bar:
                ends = [(along(place) + series.offset, upward(end)) for end in bar]
                canvas.line(ends, colour, 1.2)
    draw = canvas.dashes if series.dashed else canvas.line
    for run in _runs(x, series.values):
        places = [(along(a) + series.offset, upward(b)) for a, b in run]
        if len(places) > 1:
            draw(places, colour, 2.2)
        for place in places if len(x) <= 64 else places[-1:]:
            canvas.dot(place, 2.6 if series.dashed else 3.6, colour)


def _coloured(panel: Panel) -> list[tuple[Series, str]]:
    pairs = zip(panel.series, COLOURS, strict=False)
    return [(series, series.colour or colour) for series, colour in pairs]


def _draw_legend(canvas: Canvas, panel: Panel, middle: float) -> None:
    """Names of the lines, flush right; none where the title says it all."""
    if len(panel.series) < 2:
        return
    right = WIDTH - RIGHT
    for series, colour in reversed(_coloured(panel)):
        left = right - canvas.text_width(series.name, 13)
        canvas.text((left, middle), series.name, FAINT, 13, "lm")
        canvas.dot((left - 11, middle), 4.5, colour)
        right = left - 34


def _bars(series: Series) -> list[tuple[float, ...]]:
    """Both ends of every value's bar; nothing where value or spread is not finite."""
    spread = [0.0] * len(series.values) if series.spread is None else series.spread
    pairs = zip(series.values, spread, strict=True)
    return [(v - s, v + s) if math.isfinite(v) and math.isfinite(s) else () for v, s in pairs]


def _runs(x: Sequence[float], values: Sequence[float]) -> list[list[tuple[float, float]]]:
    """Neighbouring finite values, as far as no gap parts them."""
    runs: list[list[tuple[float, float]]] = [[]]
    for place, value in zip(x, values, strict=True):
        if math.isfinite(value):
            runs[-1].append((place, value))
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]
