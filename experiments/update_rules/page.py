"""The laboratory's page: a table, charts, and what each of them means, in one file."""

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tttlrm_jax.reports.page import render
from tttlrm_jax.reports.plots import COLOURS, THEME, Panel, Plot, Series, line_charts

WIDTH, HEIGHT = 5.6, 2.7  # inches of a chart, without the numbers below it


@dataclasses.dataclass(frozen=True)
class Chart:
    """Values `y` of a part of the results against its `x`."""

    caption: str
    part: str
    x: str
    x_label: str
    y: str
    y_label: str
    log: bool = False
    from_zero: bool = False
    limits: tuple[float, float] | None = None


CHARTS = {
    "Associative recall": (
        Chart("Error over all pairs seen so far",
              "recall", "pairs_seen", "pairs seen", "error_by_pairs", "recall error"),
        Chart("Error at the end by distance",
              "recall", "pairs_since", "pairs written since", "error_by_distance", "recall error"),
    ),
    "Drift and forgetting": (
        Chart("Distance from the initial weights", "drift", "chunks", "updates",
              "moved", "|W - W0| / |W0|", log=True, from_zero=True),
        Chart("Norm of the weights", "drift", "chunks", "updates",
              "norm", "|W| / |W0|", log=True, limits=(0.9, 1.1)),
        Chart("Overlap with the initial subspace", "drift", "chunks", "updates",
              "overlap", "overlap", log=True, limits=(0.0, 1.0)),
        Chart("Recall of the first chunk", "drift", "chunks", "updates",
              "first_chunk_error", "recall error", log=True),
    ),
    "Cost": (
        Chart("FLOPs per token", "cost", "views_per_chunk", "views per update",
              "mflop_per_token", "MFLOP per token", log=True, from_zero=True),
        Chart("The rule's share of the update", "cost", "views_per_chunk", "views per update",
              "rule_share", "share", log=True, from_zero=True),
    ),
    "Reconstruction, training-free": (
        Chart("PSNR of unseen views by chunk",
              "reconstruction", "views", "views seen", "psnr", "PSNR, dB"),
        Chart("Gain over the rule of the model's training",
              "reconstruction", "views", "views seen", "gain", "PSNR gain, dB"),
    ),
}  # fmt: skip


def write_page(results: dict[str, Any]) -> str:
    """The HTML document of `results`, as the JSON file holds them."""
    rules = results["rules"]
    looks = {name: _look(name, place) for place, name in enumerate(rules)}
    texts = _texts(results)
    sections = [
        {
            "title": title,
            "text": texts[title],
            "charts": [(chart.caption, _draw(chart, rules, looks).svg()) for chart in charts],
        }
        for title, charts in CHARTS.items()
        if title in texts
    ]
    columns, rows = _table(rules)
    return render(
        str(Path(__file__).with_suffix(".html")),
        kind="Laboratory",
        title="Update rules of fast weights",
        machine=results["machine"],
        seconds=f"{results['seconds']:.0f}",
        finished=results["finished"],
        columns=columns,
        rows=rows,
        looks=looks,
        sections=sections,
    )


def _look(name: str, place: int) -> dict[str, Any]:
    """Colour of a rule, the same in all charts; compositions are dashed."""
    colour = COLOURS[place % len(COLOURS)]
    dashed = "(" in name or place >= len(COLOURS)
    return {"colour": colour, "variable": THEME[colour], "dashed": dashed}


def _draw(chart: Chart, rules: dict[str, Any], looks: dict[str, dict[str, Any]]) -> Plot:
    measured = {name: rule[chart.part] for name, rule in rules.items() if rule.get(chart.part)}
    series = []
    for name, part in measured.items():
        values = part[chart.y]
        mean, spread = (
            (values["mean"], _numbers(values["standard_error"]))
            if isinstance(values, dict)
            else (values, None)
        )
        series.append(
            Series(name=name, values=_numbers(mean), spread=spread,
                   colour=looks[name]["colour"], dashed=looks[name]["dashed"])
        )  # fmt: skip
    panel = Panel(
        title="", unit=chart.y_label, series=series, bands=True, legend=False,
        from_zero=chart.from_zero, limits=chart.limits,
    )  # fmt: skip
    x = next(iter(measured.values()))[chart.x]
    return line_charts(
        "", "", x, chart.x_label, [panel], log_x=chart.log, width=WIDTH, plot_height=HEIGHT
    )


def _numbers(values: list[float | None]) -> list[float]:
    """As numbers; JSON has null for those that are not finite."""
    return [math.nan if value is None else value for value in values]


def _texts(results: dict[str, Any]) -> dict[str, str]:
    """What stands above the charts of each section that was measured."""
    memory, layer, streams = results["memory"], results["layer"], results["streams"]
    rank = memory["d_head"] // 4
    texts = {
        "Associative recall":
            f"{memory['chunk'] * memory['num_chunks']} random key-value pairs are written into a "
            f"fast network of width {memory['d_head']} and inner width {memory['d_hid']}, "
            f"{memory['chunk']} with each update. Error is 1 - cos(f(k), v): 0 is perfect, 1 is "
            f"chance. Bands are the standard error over {memory['seeds']} seeds; a rule's rate, if "
            f"any, is chosen from {', '.join(f'{r:g}' for r in memory['rates'])} on "
            f"{memory['tuning_seeds']} other seeds (least mean error over all pairs at the end).",
        "Drift and forgetting":
            f"The same memory over {memory['long_stream']} updates of ever new pairs, with the "
            f"tuned rates. Columns are renormalised after each update, so weights turn and do not "
            f"grow. Overlap is that of the leading {rank} input directions of the up matrix with "
            f"those at the start: 1 is unmoved, {rank / memory['d_head']:g} is chance.",
        "Cost":
            f"FLOPs of one update as the compiler counts them, width {layer['d_head']}, inner "
            f"width {layer['d_hid']}, {layer['tokens_per_view']} tokens a view. The rule's share "
            f"is what is neither gradient nor renormalisation: Newton-Schulz in the Muon family. A "
            f"published view of 960x536 pixels has 8040 tokens.",
    }  # fmt: skip
    if streams is not None:
        texts["Reconstruction, training-free"] = (
            f"The model {results['checkpoint']} with its rule replaced and nothing retrained: "
            f"{streams['scenes']} held-out procedural objects, {streams['input_views']} views in "
            f"chunks of {streams['chunk_views']}. After each chunk all views so far are read. "
            f"Bands are the standard error over scenes; the scenes are the same for all rules, so "
            f"that differences, taken scene by scene, are known better than each rule's "
            f"PSNR.{_gates(results['rules'])}"
        )
    return texts


def _gates(rules: dict[str, Any]) -> str:
    """A sentence on the gates of rules that learn some."""
    gated = [
        f"{name} ({rule['reconstruction']['gates']})"
        for name, rule in rules.items()
        if rule["reconstruction"]["gates"] is not None
    ]
    return f" Gates that a rule learns: {', '.join(gated)}." if gated else ""


# title, how to read a rule's number and its standard error, digits, whether more is better
COLUMNS = (
    ("rate", lambda r: (r["rate"], None), 2, None),
    ("recall error, all pairs", lambda r: _at(r["recall"]["error_by_pairs"]), 3, False),
    ("newest chunk", lambda r: _at(r["recall"]["error_by_distance"], 0), 3, False),
    ("oldest chunk", lambda r: _at(r["recall"]["error_by_distance"]), 3, False),
    ("retrieved", lambda r: _at(r["recall"]["retrieved"]), 3, True),
    ("moved, long stream", lambda r: _at(r["drift"]["moved"]), 2, None),
    ("overlap, long stream", lambda r: _at(r["drift"]["overlap"]), 2, None),
    ("newest chunk, long stream", lambda r: _at(r["drift"]["last_chunk_error"]), 3, False),
    ("MFLOP/token, 1 view", lambda r: (r["cost"]["mflop_per_token"][0], None), 1, False),
    ("rule's share, 1 view", lambda r: (r["cost"]["rule_share"][0], None), 3, None),
    ("PSNR after last chunk", lambda r: _at(r["reconstruction"]["psnr"]), 2, True),
    ("PSNR gain over own rule", lambda r: _at(r["reconstruction"]["gain"]), 2, None),
)


def _at(values: dict[str, Any], place: int = -1) -> tuple[float | None, float | None]:
    """Mean and standard error, of a list those at one place."""
    mean, error = values["mean"], values["standard_error"]
    return (mean[place], error[place]) if isinstance(mean, list) else (mean, error)


def _table(rules: dict[str, Any]) -> tuple[list[str], dict[str, list[dict[str, Any]]]]:
    """Titles of the columns, and cells by rule."""
    streamed = next(iter(rules.values()))["reconstruction"] is not None
    columns = [column for column in COLUMNS if streamed or "PSNR" not in column[0]]
    found = [list(_cells(rules, *column[1:])) for column in columns]
    rows = zip(*found, strict=True)
    return [title for title, *_ in columns], dict(zip(rules, map(list, rows), strict=True))


def _cells(rules: dict[str, Any], read, digits: int, more: bool | None) -> Iterator[dict[str, Any]]:
    """One column: numbers as text, the best of them marked."""
    pairs = [read(rule) for rule in rules.values()]
    known = [value for value, _ in pairs if value is not None]
    best = None if more is None or not known else (max if more else min)(known)
    for value, error in pairs:
        yield {
            "value": None if value is None else f"{value:.{digits}f}",
            "error": None if value is None or error is None else f"{error:.{digits}f}",
            "best": value is not None and value == best,
        }
