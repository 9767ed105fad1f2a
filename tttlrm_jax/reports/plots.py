"""Plots with matplotlib: their colours and files, and line charts that share one horizontal axis.

matplotlib is imported when the first plot is drawn. Figures are made without pyplot, so nothing is
kept between them. A plot becomes a PNG on paper, or an inline SVG whose colours are the CSS
variables of `report.css`: light or dark as the page is. The same data give the same bytes.
"""

import contextlib
import dataclasses
import io
import math
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup, escape

from tttlrm_jax.core.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

PAPER, CARD, INK, FAINT, GRID = "#f7f6f2", "#ffffff", "#1b1c20", "#6b6c74", "#e6e4dd"
COLOURS = (
    "#0f766e", "#c2410c", "#4f46a5", "#8a8880", "#b91c5c", "#1d4ed8", "#a16207", "#15803d",
    "#7c2d12", "#0891b2", "#9333ea", "#111827", "#65a30d", "#e11d48",
)  # fmt: skip
THEME = {CARD: "--card", INK: "--ink", FAINT: "--faint", GRID: "--line"} | {
    colour: f"--series-{number}" for number, colour in enumerate(COLOURS)
}
STYLE = {
    "font.family": ["DejaVu Sans"], "svg.fonttype": "none", "svg.hashsalt": "tttlrm-jax",
    "text.parse_math": False, "axes.unicode_minus": True, "lines.solid_capstyle": "round",
    "lines.solid_joinstyle": "round", "lines.dashed_pattern": (4, 3),
}  # fmt: skip
DPI = 200  # of PNG files
WIDTH, PLOT_HEIGHT = 10.0, 1.9  # inches: of a figure, of one chart in it
MARGIN, LEFT, RIGHT, HEAD, PANEL_HEAD, LEGEND_ROW, FOOT = 0.28, 0.96, 0.4, 0.76, 0.4, 0.2, 0.54
TITLE, SUBTITLE, HEADING, TEXT = 17.0, 10.0, 11.0, 9.4  # points
LABELS = 1.97  # numbers along an inch of the horizontal axis, at most
TICKS = 4  # intervals wanted on a vertical axis
MAX_DOTS = 64  # longer lines have a dot at their end alone


@dataclasses.dataclass(frozen=True, eq=False)
class Plot:
    """A drawn figure, and what it shows in words."""

    figure: "Figure"
    label: str
    tooltips: dict[str, str] = dataclasses.field(default_factory=dict)  # by id of a group

    def png(self) -> bytes:
        """The figure on paper, 200 pixels per inch."""
        return self._saved("png", dpi=DPI, facecolor=PAPER)

    def svg(self) -> Markup:
        """An element for an HTML page, without outside references."""
        text = self._saved("svg", dpi=DPI, facecolor="none", metadata={"Date": None}).decode()
        text = re.sub(r"<metadata>.*?</metadata>|<style .*?</style>", "", text, flags=re.DOTALL)
        text = text[text.index("<svg") :].replace("xlink:href", "href")
        size = re.search(r'viewBox="[^"]*"', text)
        assert size is not None
        head = f'<svg class="plot" {size[0]} role="img" aria-label="{escape(self.label)}">'
        body = text[text.index(">") + 1 :]
        for name, tooltip in self.tooltips.items():
            group = f'<g id="{name}">'
            body = body.replace(group, f"{group}<title>{escape(tooltip)}</title>")
        body = re.sub(r'<g id="[^"]*"(/?)>', r"<g\1>", body)  # several plots share a page
        colours = re.compile("|".join(THEME))
        return Markup(head + colours.sub(lambda found: f"var({THEME[found[0]]})", body))

    def _saved(self, kind: str, **options) -> bytes:
        buffer = io.BytesIO()
        with style():
            self.figure.savefig(buffer, format=kind, **options)
        return buffer.getvalue()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Series:
    """One line; values that are not finite are gaps."""

    name: str
    values: Sequence[float]
    spread: Sequence[float] | None = None  # +- so much at every value
    colour: str | None = None  # else the next of COLOURS
    dashed: bool = False  # shows what lies below it
    offset: float = 0.0  # to the right, in points: bars side by side


@dataclasses.dataclass(frozen=True, kw_only=True)
class Panel:
    """One chart: a title, the unit of its vertical axis and its lines."""

    title: str
    unit: str
    series: Sequence[Series]
    from_zero: bool = True  # the axis begins at 0, so that heights compare
    zero_line: bool = False  # for values of both signs: the axis holds 0, and a line marks it
    bands: bool = False  # the spread is a band instead of bars
    limits: tuple[float, float] | None = None  # of the vertical axis, in place of the values'
    legend: bool = True


@contextlib.contextmanager
def style() -> Iterator[None]:
    """matplotlib's settings while a figure is made or saved."""
    import matplotlib

    settings: Any = STYLE
    with matplotlib.rc_context(settings):
        yield


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure of so many inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height))


def new_axes(figure: "Figure", box: tuple[float, float, float, float]) -> "Axes":
    """A plain card with a faint grid; `box` is left, top, width, height in inches from the top."""
    width, height = figure.get_size_inches()
    left, top, across, down = box
    axes = figure.add_axes((left / width, 1 - (top + down) / height, across / width, down / height))
    axes.set_facecolor(CARD)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(length=0, pad=6, labelsize=TEXT, labelcolor=FAINT)
    return axes


def write(figure: "Figure", left: float, top: float, text: str, size: float, colour: str) -> None:
    """Text whose top left corner is so many inches from that of the figure."""
    width, height = figure.get_size_inches()
    figure.text(left / width, 1 - top / height, text, size=size, color=colour, va="top")


def line_charts(
    title: str,
    subtitle: str,
    x: Sequence[float],
    x_label: str,
    panels: Sequence[Panel],
    *,
    log_x: bool = False,
    width: float = WIDTH,
    plot_height: float = PLOT_HEIGHT,
) -> Plot:
    """The charts one below the other; `x` ascends.

    Later series lie above earlier ones. `width` of the figure and `plot_height` of one chart are
    inches. With `log_x` equal ratios of `x`, all above 0, are equally far apart. Raises InputError
    where a series or its spread is not as long as `x`, and for more series than there are colours.
    """
    for panel in panels:
        _check(panel, len(x))
    head = HEAD if title else 0.0
    heads = [_panel_head(panel, width) for panel in panels]
    height = head + sum(heads) + len(panels) * plot_height + FOOT
    with style():
        figure = new_figure(width, height)
        if title:
            write(figure, MARGIN, 0.2, title, TITLE, INK)
            write(figure, MARGIN, 0.5, subtitle, SUBTITLE, FAINT)
        top, tooltips = head, {}
        for number, (panel, above) in enumerate(zip(panels, heads, strict=True)):
            box = (LEFT, top + above, width - LEFT - RIGHT, plot_height - 0.14)
            axes = new_axes(figure, box)
            _draw_panel(axes, panel, x, log_x, f"series-{number}")
            tooltips |= {f"series-{number}-{k}": s.name for k, s in enumerate(panel.series)}
            top += above + plot_height
            if panel is not panels[-1]:
                axes.set_xticklabels([])
        axes.set_xlabel(x_label, size=SUBTITLE, color=INK, labelpad=6)
    names = ", ".join(panel.title or panel.unit for panel in panels)
    return Plot(figure, f"{names} against {x_label}", tooltips)


def nice_ticks(low: float, high: float, wanted: int = TICKS) -> np.ndarray:
    """Multiples of 1, 2 or 5 times a power of ten that enclose [low, high]."""
    from matplotlib.ticker import MaxNLocator

    if high <= low:
        high = low + max(abs(low), 1.0)
    ticks = MaxNLocator(wanted, steps=[1, 2, 5, 10], min_n_ticks=2).tick_values(low, high)
    return np.asarray(ticks)


def tick_label(value: float, step: float) -> str:
    """A number with as many decimals as its axis needs, or short where that is too many digits."""
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    plain = decimals <= 6 and abs(value) < 1e7
    return f"{value:.{decimals}f}".replace("-", "\u2212") if plain else f"{value:g}"


def x_positions(x: Sequence[float], most: int) -> list[float]:
    """Which positions get a number: all, or evenly chosen ones with both ends."""
    if len(x) <= most:
        return list(x)
    last, every = len(x) - 1, -(-(len(x) - 1) // (most - 1))
    chosen = [place for place in range(0, last, every) if last - place > 0.6 * every]
    return [x[place] for place in (*chosen, last)]


def _check(panel: Panel, expected: int) -> None:
    if sum(series.colour is None for series in panel.series) > len(COLOURS):
        raise InputError.of(
            f"panel {panel.title}: series", len(panel.series),
            f"are more than the {len(COLOURS)} colours", "draw fewer",
        )  # fmt: skip
    for series in panel.series:
        for name, values in ((series.name, series.values), ("spread", series.spread)):
            if values is not None and (len(values) != expected or not expected):
                raise InputError.of(
                    f"series {series.name}: length of {name}", len(values),
                    f"is not that of the {expected} positions", "give one value per position",
                )  # fmt: skip


def _legend_columns(panel: Panel, width: float) -> int:
    """Names side by side in the legend; 0: they stand beside the title in one row."""
    if not panel.legend or len(panel.series) < 2:
        return 0
    letter = 0.6 * TEXT / 72  # inches, about
    names = [len(series.name) * letter + 0.45 for series in panel.series]
    if sum(names) + len(panel.title) * 0.6 * HEADING / 72 < width - LEFT - RIGHT:
        return 0
    return max(1, int((width - LEFT - RIGHT) / max(names)))


def _panel_head(panel: Panel, width: float) -> float:
    """Inches between the top of a chart's part and its axes."""
    columns = _legend_columns(panel, width)
    rows = -(-len(panel.series) // columns) if columns else 0
    return (PANEL_HEAD if panel.title else 0.14) + rows * LEGEND_ROW


def _draw_panel(axes: "Axes", panel: Panel, x: Sequence[float], log_x: bool, name: str) -> None:
    """Grid and numbers, the lines, each with an id that begins with `name`, title and legend."""
    width = axes.figure.get_size_inches()[0]
    _set_horizontal(axes, x, log_x, max(2, int(LABELS * (width - LEFT - RIGHT))))
    ticks = _vertical_ticks(panel)
    axes.set_yticks(ticks, [tick_label(tick, ticks[1] - ticks[0]) for tick in ticks])
    axes.set_ylim(*(panel.limits or (ticks[0], ticks[-1])))
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_ylabel(panel.unit, size=TEXT, color=FAINT, labelpad=6)
    if panel.zero_line:
        axes.axhline(0.0, color=FAINT, linewidth=1.2)
    for place, series in enumerate(panel.series):
        colour = series.colour or COLOURS[place % len(COLOURS)]
        line = _draw_series(axes, series, colour, x, panel)
        line.set_gid(f"{name}-{place}")
    _set_heading(axes, panel, _legend_columns(panel, width))


def _set_horizontal(axes: "Axes", x: Sequence[float], log: bool, most_labels: int) -> None:
    """Range, scale and numbers of the horizontal axis, with a little room at both ends."""
    if log:
        axes.set_xscale("log")
    low, high = (np.log(x[0]), np.log(x[-1])) if log else (x[0], x[-1])
    room = 0.02 * (high - low) if high > low else 1.0
    ends = np.array([low - room, high + room])
    axes.set_xlim(*(np.exp(ends) if log else ends))
    positions = x_positions(x, most_labels)
    axes.set_xticks(positions, [f"{value:g}" for value in positions])
    axes.minorticks_off()


def _set_heading(axes: "Axes", panel: Panel, columns: int) -> None:
    """Title and legend above the axes, the legend below the title where both are too long."""
    rows = -(-len(panel.series) // columns) if columns else 0
    if panel.title:
        pad = 8 + 72 * LEGEND_ROW * rows
        axes.set_title(panel.title, loc="left", size=HEADING, color=INK, pad=pad)
    if panel.legend and len(panel.series) > 1:
        axes.legend(
            loc="lower left" if columns else "lower right", ncols=columns or len(panel.series),
            bbox_to_anchor=(0.0 if columns else 1.0, 1.0), frameon=False, fontsize=TEXT,
            labelcolor=FAINT, borderaxespad=0.3, borderpad=0.2, handlelength=1.6, columnspacing=1.6,
        )  # fmt: skip


def _vertical_ticks(panel: Panel) -> np.ndarray:
    """Where the grid lies; the axis ends at the first and the last of them."""
    if panel.limits is not None:
        return nice_ticks(*panel.limits)
    ends = np.concatenate([_ends(series) for series in panel.series], axis=1)
    ends = ends[np.isfinite(ends)]
    low, high = (ends.min(), ends.max()) if ends.size else (0.0, 1.0)
    values = np.concatenate([np.asarray(series.values, np.float64) for series in panel.series])
    if panel.from_zero and not (values < 0).any():
        low = 0.0
    if panel.zero_line:
        low, high = min(low, 0.0), max(high, 0.0)
    return nice_ticks(float(low), float(high))


def _draw_series(
    axes: "Axes", series: Series, colour: str, x: Sequence[float], panel: Panel
) -> "Line2D":
    """A line with a dot and perhaps a bar per value, or a band around it; returns the line."""
    from matplotlib.transforms import ScaledTranslation

    shift = ScaledTranslation(series.offset / 72, 0, axes.figure.dpi_scale_trans)
    place = {"transform": axes.transData + shift, "clip_on": panel.limits is not None}
    low, high = _ends(series)
    if series.spread is not None and panel.bands:
        axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0, **place)
    elif series.spread is not None:
        axes.vlines(x, low, high, color=colour, linewidth=0.9, **place)
    values = np.asarray(series.values, np.float64)
    finite = np.flatnonzero(np.isfinite(values))
    dots = {} if panel.bands else {"marker": "o", "markersize": 3.7 if series.dashed else 5.2}
    if dots and len(x) > MAX_DOTS:
        dots["markevery"] = finite[-1:].tolist()
    (line,) = axes.plot(
        x, values, color=colour, linewidth=1.6, linestyle="--" if series.dashed else "-",
        label=series.name, markeredgewidth=0, **dots, **place,
    )  # fmt: skip
    return line


def _ends(series: Series) -> np.ndarray:
    """Both ends of every value's bar [2, value]; NaN where value or spread is not finite."""
    values = np.asarray(series.values, np.float64)
    spread = np.zeros_like(values) if series.spread is None else np.asarray(series.spread)
    ends = np.stack([values - spread, values + spread])
    return np.where(np.isfinite(ends).all(axis=0), ends, np.nan)
