"""The laboratory's page: a table, charts, and what each of them means, in one file."""

import html
import math
from typing import Any

from experiments.update_rules.charts import COLOURS, Axis, Line, chart

STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #1b1c20; background: #f7f6f2;
  margin: 0 auto; max-width: 1360px; padding: 24px; }
h1 { font-size: 26px; margin: 0 0 4px; } h2 { font-size: 19px; margin: 32px 0 4px; }
p { margin: 4px 0 12px; max-width: 90ch; } .faint { color: #6b6c74; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 480px), 1fr));
  gap: 16px; }
figure { margin: 0; background: #fff; border: 1px solid #e6e4dd; border-radius: 8px;
  padding: 12px; }
figcaption { font-weight: 600; margin-bottom: 4px; }
svg { width: 100%; height: auto; } svg text { font: 11.5px system-ui, sans-serif; fill: #6b6c74; }
svg .axis { font-size: 12.5px; fill: #1b1c20; } svg .grid { stroke: #e6e4dd; }
.legend { position: sticky; top: 0; background: #f7f6f2; padding: 8px 0; display: flex;
  flex-wrap: wrap; gap: 4px 16px; z-index: 1; border-bottom: 1px solid #e6e4dd; }
.legend span { white-space: nowrap; }
.legend i { display: inline-block; width: 22px; margin-right: 6px; vertical-align: middle; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; background: #fff; width: 100%;
  font-size: 13.5px; }
th, td { padding: 5px 7px; border-bottom: 1px solid #e6e4dd; text-align: right; }
th:first-child, td:first-child { text-align: left; } td { white-space: nowrap; }
td small { color: #6b6c74; font-weight: 400; }
th { font-weight: 600; vertical-align: bottom; } td.best { font-weight: 700; color: #0f766e; }
"""


def write_page(results: dict[str, Any]) -> str:
    """The HTML document of `results`, as the JSON file holds them."""
    rules = results["rules"]
    look = {
        name: (COLOURS[n % len(COLOURS)], "(" in name or n >= len(COLOURS))
        for n, name in enumerate(rules)
    }

    def lines(part: str, x: str, y: str) -> list[Line]:
        drawn = []
        for name, rule in rules.items():
            if rule.get(part) is None:
                continue
            values = rule[part][y]
            mean, spread = (
                (values["mean"], values["standard_error"])
                if isinstance(values, dict)
                else (values, None)
            )
            drawn.append(
                Line(name=name, colour=look[name][0], dashed=look[name][1], x=rule[part][x],
                     y=_numbers(mean), spread=None if spread is None else _numbers(spread))
            )  # fmt: skip
        return drawn

    memory, layer = results["memory"], results["layer"]
    pairs = memory["chunk"] * memory["num_chunks"]
    sections = [
        _section(
            "Associative recall",
            f"{pairs} random key-value pairs are written into a fast network of width "
            f"{memory['d_head']} and inner width {memory['d_hid']}, {memory['chunk']} with each "
            f"update. Error is 1 - cos(f(k), v): 0 is perfect, 1 is chance. Bands are the "
            f"standard error over {memory['seeds']} seeds; a rule's rate, if any, is chosen from "
            f"{', '.join(f'{r:g}' for r in memory['rates'])} on {memory['tuning_seeds']} other "
            f"seeds (least mean error over all pairs at the end).",
            ("Error over all pairs seen so far",
             chart(lines("recall", "pairs_seen", "error_by_pairs"), Axis(label="pairs seen"),
                   Axis(label="recall error"))),
            ("Error at the end by distance",
             chart(lines("recall", "pairs_since", "error_by_distance"),
                   Axis(label="pairs written since"), Axis(label="recall error"))),
        ),
        _section(
            "Drift and forgetting",
            f"The same memory over {memory['long_stream']} updates of ever new pairs, with the "
            f"tuned rates. Columns are renormalised after each update, so weights turn and do "
            f"not grow. Overlap is that of the leading {memory['d_head'] // 4} input directions "
            f"of the up matrix with those at the start: 1 is unmoved, "
            f"{memory['d_head'] // 4 / memory['d_head']:g} is chance.",
            ("Distance from the initial weights",
             chart(lines("drift", "chunks", "moved"), Axis(label="updates", log=True),
                   Axis(label="|W - W0| / |W0|", low=0))),
            ("Norm of the weights",
             chart(lines("drift", "chunks", "norm"), Axis(label="updates", log=True),
                   Axis(label="|W| / |W0|", low=0.9, high=1.1))),
            ("Overlap with the initial subspace",
             chart(lines("drift", "chunks", "overlap"), Axis(label="updates", log=True),
                   Axis(label="overlap", low=0, high=1))),
            ("Recall of the first chunk",
             chart(lines("drift", "chunks", "first_chunk_error"), Axis(label="updates", log=True),
                   Axis(label="recall error"))),
        ),
        _section(
            "Cost",
            f"FLOPs of one update as the compiler counts them, width {layer['d_head']}, inner "
            f"width {layer['d_hid']}, {layer['tokens_per_view']} tokens a view. The rule's "
            f"share is what is neither gradient nor renormalisation: Newton-Schulz in the Muon "
            f"family. A published view of 960x536 pixels has 8040 tokens.",
            ("FLOPs per token",
             chart(lines("cost", "views_per_chunk", "mflop_per_token"),
                   Axis(label="views per update", log=True),
                   Axis(label="MFLOP per token", low=0))),
            ("The rule's share of the update",
             chart(lines("cost", "views_per_chunk", "rule_share"),
                   Axis(label="views per update", log=True), Axis(label="share", low=0))),
        ),
    ]  # fmt: skip
    if results["streams"] is not None:
        streams = results["streams"]
        sections.append(
            _section(
                "Reconstruction, training-free",
                f"The model {html.escape(str(results['checkpoint']))} with its rule replaced and "
                f"nothing retrained: {streams['scenes']} held-out procedural objects, "
                f"{streams['input_views']} views in chunks of {streams['chunk_views']}. After "
                f"each chunk all views so far are read. Bands are the standard error over scenes; "
                f"the scenes are the same for all rules, so that differences, taken scene by "
                f"scene, are known better than each rule's PSNR.{_gates(rules)}",
                ("PSNR of unseen views by chunk",
                 chart(lines("reconstruction", "views", "psnr"), Axis(label="views seen"),
                       Axis(label="PSNR, dB"))),
                ("Gain over the rule of the model's training",
                 chart(lines("reconstruction", "views", "gain"), Axis(label="views seen"),
                       Axis(label="PSNR gain, dB"))),
            )
        )  # fmt: skip
    state = "" if results["finished"] else " &middot; not finished"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Update rules of fast weights</title><style>{STYLE}</style></head><body>"
        "<h1>Update rules of fast weights</h1>"
        f'<p class="faint">{html.escape(results["machine"])} &middot; '
        f"{results['seconds']:.0f} s{state}</p>"
        f"{_table(rules)}{_legend(look)}{''.join(sections)}</body></html>"
    )


def _numbers(values: list[float | None]) -> list[float]:
    """As numbers; JSON has null for those that are not finite."""
    return [math.nan if value is None else value for value in values]


def _gates(rules: dict[str, Any]) -> str:
    """A sentence on the gates of rules that learn some."""
    gated = [
        f"{html.escape(name)} ({rule['reconstruction']['gates']})"
        for name, rule in rules.items()
        if rule["reconstruction"]["gates"] is not None
    ]
    return f" Gates that a rule learns: {', '.join(gated)}." if gated else ""


def _section(title: str, text: str, *figures: tuple[str, str]) -> str:
    drawn = "".join(
        f"<figure><figcaption>{html.escape(caption)}</figcaption>{svg}</figure>"
        for caption, svg in figures
    )
    return f'<h2>{title}</h2><p>{text}</p><div class="charts">{drawn}</div>'


def _legend(look: dict[str, tuple[str, bool]]) -> str:
    entries = "".join(
        f'<span><i style="border-top:3px {"dashed" if dashed else "solid"} {colour}"></i>'
        f"{html.escape(name)}</span>"
        for name, (colour, dashed) in look.items()
    )
    return f'<div class="legend">{entries}</div>'


# title, how to read a rule's number and its standard error, digits, whether more is better
COLUMNS = (
    ("rate", lambda r: (r["rate"], None), 2, None),
    ("recall error, all pairs", lambda r: _last(r["recall"]["error_by_pairs"]), 3, False),
    ("newest chunk", lambda r: _first(r["recall"]["error_by_distance"]), 3, False),
    ("oldest chunk", lambda r: _last(r["recall"]["error_by_distance"]), 3, False),
    ("retrieved", lambda r: _last(r["recall"]["retrieved"]), 3, True),
    ("moved, long stream", lambda r: _last(r["drift"]["moved"]), 2, None),
    ("overlap, long stream", lambda r: _last(r["drift"]["overlap"]), 2, None),
    ("newest chunk, long stream", lambda r: _last(r["drift"]["last_chunk_error"]), 3, False),
    ("MFLOP/token, 1 view", lambda r: (r["cost"]["mflop_per_token"][0], None), 1, False),
    ("rule's share, 1 view", lambda r: (r["cost"]["rule_share"][0], None), 3, None),
    ("PSNR after last chunk", lambda r: _last(r["reconstruction"]["psnr"]), 2, True),
    ("PSNR gain over own rule", lambda r: _last(r["reconstruction"]["gain"]), 2, None),
)


def _last(values):
    mean, error = values["mean"], values["standard_error"]
    return (mean[-1], error[-1]) if isinstance(mean, list) else (mean, error)


def _first(values):
    return values["mean"][0], values["standard_error"][0]


def _cell(value: float | None, error: float | None, digits: int, best: float | None) -> str:
    if value is None:
        return "<td>&ndash;</td>"
    spread = "" if error is None else f" <small>&plusmn;&nbsp;{error:.{digits}f}</small>"
    return f"<td{' class=best' if value == best else ''}>{value:.{digits}f}{spread}</td>"


def _table(rules: dict[str, Any]) -> str:
    columns = [
        column for column in COLUMNS
        if "PSNR" not in column[0] or next(iter(rules.values()))["reconstruction"] is not None
    ]  # fmt: skip
    cells = {name: [read(rule) for _, read, *_ in columns] for name, rule in rules.items()}
    best = []
    for index, (_, _, _, more) in enumerate(columns):
        values = [row[index][0] for row in cells.values() if row[index][0] is not None]
        best.append(None if more is None or not values else (max if more else min)(values))
    head = "".join(f"<th>{title}</th>" for title, *_ in columns)
    body = "".join(
        f"<tr><td>{html.escape(name)}</td>"
        + "".join(
            _cell(value, error, columns[i][2], best[i]) for i, (value, error) in enumerate(row)
        )
        + "</tr>"
        for name, row in cells.items()
    )
    return f'<div class="scroll"><table><tr><th>rule</th>{head}</tr>{body}</table></div>'
