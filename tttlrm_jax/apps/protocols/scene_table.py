"""The table of a protocol: means over scenes beside the published rows, and what differs."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from tttlrm_jax.apps.protocols.scenes import SceneProtocol
from tttlrm_jax.core.errors import listed

SCORES = {"psnr": 2, "ssim": 3, "lpips": 3, "seconds": 2}  # and digits that are shown
UNKNOWN = "–"
OURS = "this model"


def make_table(
    protocol: SceneProtocol,
    records: Iterable[dict[str, Any]],
    labels: dict[str, dict[str, str]],
    resolution: tuple[int, int],
) -> dict[str, Any]:
    """A part for every number of input views: published rows, ours, strata."""
    by_views: dict[int, list[dict[str, Any]]] = {}
    for record in records:
        by_views.setdefault(record["views"], []).append(record)
    return {
        "dataset": protocol.dataset,
        "source": protocol.source,
        "resolution": list(resolution),
        "parts": [
            {
                "views": views,
                "scenes": len(found),
                "prescribed": sum(record["prescribed"] for record in found),
                "published": _published(protocol, views, resolution),
                "rows": _means(found),
                "strata": _strata(protocol, found, labels),
            }
            for views, found in sorted(by_views.items())
        ],
    }


def _published(
    protocol: SceneProtocol, views: int, resolution: tuple[int, int]
) -> list[dict[str, Any]]:
    """Rows of so many views: those of the resolution that is measured where the paper has several,
    else all."""
    rows = [row for row in protocol.published if row.views == views]
    if len({row.resolution for row in protocol.published}) > 1:
        rows = [row for row in rows if (row.resolution or protocol.resolution) == resolution]
    return [{"method": row.name, **{name: getattr(row, name) for name in SCORES}} for row in rows]


def _means(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means over the scenes that have a row, in the order of the rows."""
    names = dict.fromkeys((row["method"], row["steps"]) for r in records for row in r["rows"])
    return [
        {"method": method, "steps": steps, "scenes": len(found)} | _mean(found)
        for method, steps in names
        if (found := [row for r in records for row in r["rows"] if _is(row, method, steps)])
    ]


def _is(row: dict[str, Any], method: str, steps: int) -> bool:
    return (row["method"], row["steps"]) == (method, steps)


def _mean(rows: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    means: dict[str, float | None] = {}
    for name in SCORES:
        values = [row[name] for row in rows if row[name] is not None]
        means[name] = float(np.mean(values)) if values else None
    return means


def _strata(
    protocol: SceneProtocol, records: Sequence[dict[str, Any]], labels: dict[str, dict[str, str]]
) -> list[dict[str, Any]]:
    """PSNR of the model as it is over parts of the scenes; nothing without labels."""
    parts = []
    for stratum in protocol.strata if labels else ():
        found = [r for r in records if stratum.holds(labels.get(r["folder"], {}))]
        rows = [row for r in found for row in r["rows"] if _is(row, OURS, 0)]
        part = {"stratum": stratum.name, "scenes": len(rows), "published": stratum.psnr}
        parts.append(part | {"psnr": _mean(rows)["psnr"]})
    return parts


def table_text(table: dict[str, Any]) -> str:
    """The table in Markdown, for the console and a file."""
    height, width = table["resolution"]
    lines = []
    for part in table["parts"]:
        lines += [
            f"{table['dataset']}, {part['views']} input views, {width}x{height} pixels, means over "
            f"{part['scenes']} scene{'s' * (part['scenes'] != 1)}", "",
            *_aligned([("method", "PSNR", "SSIM", "LPIPS", "seconds"), *_cells(part)]),
            "", *_stratum_lines(part),
        ]  # fmt: skip
    lines += [f"{OURS[:1].upper()}{OURS[1:]}: {table['model']}."]
    lines += [f"Published rows: {table['source']}. {UNKNOWN} has no number."]
    lines += ["", "What differs:", ""] + [f"- {text}" for text in table["differs"]]
    lines += [f"- left out: {scene}: {why}" for scene, why in table["failed"].items()]
    lines += [f"- note: {scene}: {text}" for scene, text in table["notes"]]
    return "\n".join(lines)


def _cells(part: dict[str, Any]) -> list[tuple[str, ...]]:
    return [
        (_name(row), *(_number(row[name], digits) for name, digits in SCORES.items()))
        for row in [*part["published"], *part["rows"]]
    ]


def _name(row: dict[str, Any]) -> str:
    return row["method"] + (f", +{row['steps']} steps" if row.get("steps") else "")


def _number(value: float | None, digits: int) -> str:
    return UNKNOWN if value is None else f"{value:.{digits}f}"


def _stratum_lines(part: dict[str, Any]) -> list[str]:
    if not part["strata"]:
        return []
    rows = [
        (each["stratum"], str(each["scenes"]), _number(each["psnr"], 2),
         _number(each["published"], 2))
        for each in part["strata"]
    ]  # fmt: skip
    return [*_aligned([("stratum", "scenes", "PSNR", "published"), *rows]), ""]


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Lines of a Markdown table, columns of numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        " | ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    ]
    rule = "|".join(["-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:])])
    return [f"| {lines[0]} |", f"|{rule}|", *(f"| {line} |" for line in lines[1:])]


def differences(protocol: SceneProtocol, table: dict[str, Any], given: dict[str, Any]) -> list[str]:
    """Sentences on what was not done as in the paper, or is not known of it."""
    texts = list(protocol.differs)
    counts = sorted({part["scenes"] for part in table["parts"]})
    if protocol.num_scenes is not None and counts != [protocol.num_scenes]:
        texts.append(f"{listed(list(map(str, counts)))} of {protocol.num_scenes} scenes")
    if table["resolution"] != list(protocol.resolution):
        own = "{1}x{0}".format(*protocol.resolution)
        texts.append(f"the protocol's resolution is {own} pixels")
    height, width = table["resolution"]
    texts += [
        f"the paper gives no numbers for {part['views']} input views of {width}x{height} pixels"
        for part in table["parts"]
        if all(row["psnr"] is None for row in part["published"])
    ]
    texts += [
        f"{part['views']} inputs are as the scene's file prescribes in {part['prescribed']} of "
        f"{part['scenes']} scenes, by k-means in the others"
        for part in table["parts"]
        if part["prescribed"] < part["scenes"]
    ]
    if given:
        texts.append("options: " + ", ".join(f"{name} {value}" for name, value in given.items()))
    return texts
