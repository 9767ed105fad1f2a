"""Line charts that share one horizontal axis, one below the other."""

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tttlrm_jax.core.errors import InputError
from tttlrm_jax.reports import figures
from tttlrm_jax.reports.figures import COLOURS, FAINT, POINT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, PLOT_HEIGHT = 1000, 190
MARGIN, LEFT, RIGHT, HEAD, PANEL_HEAD, FOOT = 28, 96, 40, 76, 40, 54
MAX_SERIES = 6  # in one chart
MAX_LABELS = 17  # numbers along the horizontal axis
MAX_DOTS = 64  # longer lines have a dot at their end alone
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
    InputError where a series or its spread is not as long as `x`, and for more than `MAX_SERIES`.
    """
    return figures.pixels(
        line_figure(title, subtitle, x, x_label, panels, log_x=log_x, plot_height=plot_height)
    )


def line_figure(
    title: str,
    subtitle: str,
    x: Sequence[float],
    x_label: str,
    panels: Sequence[Panel],
    *,
    log_x: bool = False,
    plot_height: float = PLOT_HEIGHT,
) -> "Figure":
    """As `line_charts`, not drawn yet: axes in the order of the panels."""
    for panel in panels:
        _check_panel(panel, len(x))
    height = HEAD + len(panels) * (PANEL_HEAD + plot_height) + FOOT
    figure = figures.new_figure(WIDTH, height)
    figures.add_text(figure, (MARGIN, 34), title, size=24)
    figures.add_text(figure, (MARGIN, 60), subtitle, size=14, colour=FAINT)
    for number, panel in enumerate(panels):
        top = HEAD + number * (PANEL_HEAD + plot_height) + PANEL_HEAD
        box = (LEFT, top, WIDTH - RIGHT, top + plot_height - 14)
        axes = figures.add_axes(figure, box)
        figures.add_text(figure, (LEFT, top - 17), f"{panel.title}, {panel.unit}", size=15)
        _draw_panel(axes, panel, x)
        _lay_x(axes, x, log_x)
        if panel is not panels[-1]:
            axes.set_xticklabels([])
    figures.name_axis(axes, "x", x_label)
    return figure


def _check_panel(panel: Panel, positions: int) -> None:
    if len(panel.series) > MAX_SERIES:
        raise InputError.of(
            f"panel {panel.title}: series", len(panel.series),
            f"are more than the {MAX_SERIES} colours", "draw fewer",
        )  # fmt: skip
    for series in panel.series:
        _check_length(series.name, series.values, positions)
        if series.spread is not None:
            _check_length(f"{series.name}, spread", series.spread, positions)


def _check_length(name: str, values: Sequence[float], expected: int) -> None:
    if len(values) != expected or not expected:
        raise InputError.of(
            f"series {name}: length", len(values), f"is not that of the {expected} positions",
            "give one value per position",
        )  # fmt: skip


def _lay_x(axes: "Axes", x: Sequence[float], log_x: bool) -> None:
    """The horizontal axis from the first to the last position, with numbers at some."""
    low, high = min(x), max(x)
    if log_x:
        axes.set_xscale("log")
    margin = 0.012  # dots at the ends are whole
    if high <= low:
        limits = (low / 2, high * 2) if log_x else (low - 1, high + 1)
    elif log_x:
        wider = (high / low) ** margin
        limits = (low / wider, high * wider)
    else:
        limits = (low - margin * (high - low), high + margin * (high - low))
    axes.set_xlim(limits)
    places = x_positions(x)
    axes.set_xticks(places, [f"{place:g}" for place in places])
    axes.set_xticks([], minor=True)
    axes.grid(False, axis="x")


def x_positions(x: Sequence[float]) -> list[float]:
    """Which positions get a number: all, or evenly chosen ones with both ends."""
    if len(x) <= MAX_LABELS:
        return list(x)
    chosen = np.linspace(0, len(x) - 1, MAX_LABELS).round().astype(int)
    return [x[index] for index in chosen]


def _draw_panel(axes: "Axes", panel: Panel, x: Sequence[float]) -> None:
    """The lines, their legend and the vertical axis, whose first and last ticks enclose all."""
    from matplotlib.ticker import MaxNLocator, ScalarFormatter

    for number, series in enumerate(panel.series):
        _draw_series(axes, series, series.colour or COLOURS[number], x)
    low, high = _reach(panel)
    high = high if high > low else low + max(abs(low), 1.0)
    ticks = MaxNLocator(TICKS, steps=[1, 2, 5, 10], min_n_ticks=2).tick_values(low, high)
    axes.set_yticks(ticks)
    axes.set_ylim(ticks[0], ticks[-1])
    numbers = ScalarFormatter(useOffset=False, useMathText=False)
    numbers.set_powerlimits((-5, 9))
    axes.yaxis.set_major_formatter(numbers)
    if panel.zero_line:
        axes.axhline(0.0, color=FAINT, linewidth=1.4 * POINT, zorder=1)
    if len(panel.series) > 1:
        _draw_legend(axes, len(panel.series))


def _draw_legend(axes: "Axes", columns: int) -> None:
    """Names of the lines above the chart, flush right."""
    legend = axes.legend(
        loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=columns, frameon=False,
        borderaxespad=0.2, handlelength=1.6, handletextpad=0.5, columnspacing=1.4,
        labelcolor=FAINT, prop={"family": figures.FONT, "size": 13 * POINT},
    )  # fmt: skip
    for text in legend.get_texts():
        text.set_parse_math(False)


def _reach(panel: Panel) -> tuple[float, float]:
    """Least and largest of all that is drawn, with 0 where the panel says so."""
    ends = [end for series in panel.series for end in _ends(series) if math.isfinite(end)]
    low, high = (min(ends), max(ends)) if ends else (0.0, 1.0)
    if panel.zero_line:
        return min(low, 0.0), max(high, 0.0)
    return (0.0 if panel.from_zero else low), high


def _ends(series: Series) -> list[float]:
    values = np.asarray(series.values, float)
    spread = np.zeros_like(values) if series.spread is None else np.asarray(series.spread, float)
    return [*(values - spread), *(values + spread)]


def _draw_series(axes: "Axes", series: Series, colour: str, x: Sequence[float]) -> None:
    """A line with a dot and perhaps a bar per value."""
    from matplotlib.transforms import ScaledTranslation

    shift = ScaledTranslation(series.offset / figures.UNITS, 0, axes.figure.dpi_scale_trans)
    axes.errorbar(
        x, series.values, yerr=series.spread, color=colour, linewidth=2.2 * POINT, marker="o",
        elinewidth=1.2 * POINT, label=series.name, transform=axes.transData + shift,
        markersize=(5.2 if series.dashed else 7.2) * POINT, markeredgewidth=0, clip_on=False,
        markevery=1 if len(x) <= MAX_DOTS else [len(x) - 1],
        linestyle=(0, (4, 3)) if series.dashed else "-",
    )  # fmt: skip
