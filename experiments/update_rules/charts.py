"""Line charts as inline SVG."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tttlrm_jax.reports import figures

WIDTH, HEIGHT = 560, 320
LEFT, RIGHT, TOP, BOTTOM = 58, 12, 12, 44


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line:
    """One curve; `spread` draws a band of +- so much."""

    name: str
    colour: str
    x: Sequence[float]
    y: Sequence[float]
    spread: Sequence[float] | None = None
    dashed: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Axis:
    label: str
    log: bool = False
    low: float | None = None  # None: from the values
    high: float | None = None


def chart(lines: Sequence[Line], x: Axis, y: Axis) -> str:
    """The curves in one frame with ticks; values that are not finite are left out."""
    figure = figures.new_figure(WIDTH, HEIGHT, paper="none")
    axes = figures.add_axes(figure, (LEFT, TOP, WIDTH - RIGHT, HEIGHT - BOTTOM))
    axes.tick_params(labelsize=11.5 * figures.POINT)
    marks = {}
    for number, line in enumerate(lines):
        marks |= _draw(axes, line, number)
    for name, axis in (("x", x), ("y", y)):
        figures.name_axis(axes, name, axis.label)
    _lay(axes.xaxis, x, axes.set_xscale, axes.set_xlim)
    _lay(axes.yaxis, y, axes.set_yscale, axes.set_ylim)
    axes.grid(False, axis="x")
    return figures.svg(figure, f"{y.label} against {x.label}", marks)


def _draw(axes: Any, line: Line, number: int) -> dict[str, tuple[str, str]]:
    """A curve and its band; returns class and name of their elements by gid."""
    across, up = np.asarray(line.x, float), np.asarray(line.y, float)
    finite = np.isfinite(up)
    axes.plot(
        across[finite], up[finite], color=line.colour, linewidth=1.8 * figures.POINT,
        linestyle=(0, (4, 2.4)) if line.dashed else "-", gid=f"line-{number}",
    )  # fmt: skip
    if line.spread is None:
        return {f"line-{number}": ("line", line.name)}
    spread = np.asarray(line.spread, float)
    known = finite & np.isfinite(spread)
    outline = np.concatenate(
        [
            np.stack([across, up + spread], axis=-1)[known],
            np.stack([across, up - spread], axis=-1)[known][::-1],
        ]
    )
    axes.fill(*outline.T, facecolor=line.colour, alpha=0.15, linewidth=0, gid=f"band-{number}")
    return {
        f"line-{number}": ("line", line.name),
        f"band-{number}": ("band", f"{line.name}, standard error"),
    }


def _lay(side: Any, axis: Axis, set_scale: Callable, set_limits: Callable) -> None:
    """Scale, limits and round ticks of one side of the axes."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

    if axis.log:
        low, high = side.get_data_interval()
        set_scale("log", base=10 if high / low > 300 else 2)
        side.set_major_locator(LogLocator(10 if high / low > 300 else 2))
        side.set_minor_locator(NullLocator())
    else:
        side.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    side.set_major_formatter(lambda value, _: f"{value:g}")
    ends = {"left": axis.low, "right": axis.high} if side.axis_name == "x" else {
        "bottom": axis.low, "top": axis.high
    }  # fmt: skip
    set_limits(**{name: end for name, end in ends.items() if end is not None})
