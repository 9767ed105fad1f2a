"""Pictures of `experiments.ttt3r_length`'s results.

The first two variants, the rules that are compared, keep their colours in every chart and are drawn
last: the first as a line, the second dashed above it, so that both are seen where they agree.
"""

import math
from typing import Any

from experiments.ttt3r_length.recurrence import STILL, is_reset
from experiments.ttt3r_length.scores import METRICS
from tttlrm_jax.reports.plots import COLOURS, Panel, Plot, Series, line_charts

TITLES = {
    "ate": "ATE after Sim(3)", "rotation": "Rotation against the first camera",
    "abs_rel": "Depth, Abs Rel after one scale", "points": "Points after the same scale",
    "position": "Position, not aligned", "change": "Change of the state", "gate": "Mean rate",
    "memory": "Pose memory, root mean square",
}  # fmt: skip
SHORT = {"ate": "ATE", "rotation": "Rotation", "abs_rel": "Abs Rel", "points": "Points"}
UNITS = METRICS | {"position": "m", "change": "of its norm", "gate": "0 to 1", "memory": "value"}
FRAME_PANELS = ("rotation", "position", "abs_rel", "change", "memory")
COMPARED = 2  # variants that are drawn last
APART = 5.0  # points from one bar to its neighbour
PLOT_HEIGHT = 1.3  # inches


def draw_lengths(result: dict[str, Any], subtitle: str) -> Plot:
    """Errors against length, and below each its paired differences to the first variant.

    Bars are standard errors. Rules and resets have charts of their own, for their differences are
    of other sizes.
    """
    style = _Style(result)
    panels = []
    for metric, unit in METRICS.items():
        errors = {name: each[metric] for name, each in result["rows"].items()}
        panels.append(Panel(title=TITLES[metric], unit=unit, series=style.series(errors)))
        for resets in (False, True):
            differences = {
                name: each[metric]
                for name, each in result["differences"].items()
                if is_reset(name) == resets
            }
            if differences:
                panels.append(
                    Panel(
                        title=f"{SHORT[metric]} minus {result['baseline']}'s", unit=unit,
                        series=style.series(differences, apart=True), zero_line=True,
                    )
                )  # fmt: skip
    return line_charts(
        "Errors against the length of the sequence", subtitle, result["lengths"], "frames", panels,
        log_x=True, plot_height=PLOT_HEIGHT,
    )  # fmt: skip


def draw_frames(result: dict[str, Any], subtitle: str) -> Plot:
    """Errors and state against the number of the frame.

    The change of the state is drawn from the third frame on and without resets: a first frame
    overwrites, the second still moves ten times as far as later ones.
    """
    style = _Style(result)
    curves = {name: each for name, each in result["frames"].items() if name != STILL}
    number = list(range(1, len(next(iter(curves.values()))["change"]) + 1))
    panels = []
    for metric in FRAME_PANELS:
        moving = metric == "change"
        lines = {
            name: {"mean": [*[math.nan] * (2 * moving), *each[metric][2 * moving :]]}
            for name, each in curves.items()
            if not (moving and is_reset(name))
        }
        panels.append(Panel(title=TITLES[metric], unit=UNITS[metric], series=style.series(lines)))
    return line_charts("Frame by frame, means over scenes", subtitle, number, "frame", panels)


class _Style:
    """Which variant has which colour, and the order in which they are drawn."""

    def __init__(self, result: dict[str, Any]):
        names = list(result["rows"])
        self._colours = dict(zip(names, COLOURS, strict=False))
        variants = [name for name in names if name != STILL]
        self._compared = variants[:COMPARED]
        self._order = [name for name in names if name not in self._compared] + self._compared

    def series(self, entries: dict[str, dict[str, Any]], apart: bool = False) -> list[Series]:
        """Lines of `{name: {mean, standard_error}}`; `apart`: bars side by side."""
        names = [name for name in self._order if name in entries]
        return [
            Series(
                name=name, values=entries[name]["mean"], spread=_spread(entries[name]),
                colour=self._colours.get(name), dashed=name in self._compared[1:],
                offset=APART * (place - (len(names) - 1) / 2) if apart else 0.0,
            )
            for place, name in enumerate(names)
        ]  # fmt: skip


def _spread(entry: dict[str, Any]) -> list[float] | None:
    errors = entry.get("standard_error")
    return None if errors is None else [error or 0.0 for error in errors]
