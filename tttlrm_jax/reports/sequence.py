"""One HTML file about one sequence: everything embedded, nothing fetched.

Numbers come from the dictionary that also becomes metrics.json, so the two cannot disagree.
"""

import base64
import dataclasses
import html
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from tttlrm_jax.core.pictures import png_bytes
from tttlrm_jax.export.splat import RECORD
from tttlrm_jax.reports.heatmap import heat
from tttlrm_jax.reports.page import asset, grouped, script_json, settings_table

MAX_VIEWER_POINTS = 60_000
MAX_VIEWER_CAMERAS = 24
MAX_STILLS = 12  # frames shown at most; the step between them doubles when there are more
STILL_WIDTH = 200  # pixels
DEPTH_ERRORS = ("abs_rel", "rmse", "log_rmse")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Still:
    """Small pictures of one frame."""

    name: str
    image: np.ndarray  # uint8 [height, width, 3]
    depth: np.ndarray  # float32 [height, width] metres as predicted
    confidence: np.ndarray  # float32 [height, width]


class Stills:
    """Evenly chosen frames of a sequence whose length is not known: at most `MAX_STILLS`."""

    def __init__(self) -> None:
        self.chosen: list[Still] = []
        self._every, self._seen = 1, 0

    def offer(self, name: str, image: np.ndarray, depth: np.ndarray, confidence: np.ndarray):
        if self._seen % self._every == 0:
            step = max(1, image.shape[1] // STILL_WIDTH)
            part = (slice(None, None, step), slice(None, None, step))
            small = (np.array(each[part]) for each in (image, depth, confidence))
            self.chosen.append(Still(name=name, **dict(zip(_PICTURES, small, strict=True))))
            if len(self.chosen) > MAX_STILLS:
                self.chosen, self._every = self.chosen[::2], 2 * self._every
        self._seen += 1


_PICTURES = ("image", "depth", "confidence")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SequenceReport:
    """What the page shows."""

    metrics: dict[str, Any]  # as written to metrics.json
    trajectory: bytes  # PNG
    charts: bytes | None  # PNG of values per frame
    stills: list[Still]
    points: np.ndarray  # vertices of `point_stream`, some of them
    poses: np.ndarray  # [frame, 4, 4] predicted
    focal: float  # pixels
    settings: dict[str, str]


def write_sequence_report(path: Path, report: SequenceReport) -> None:
    """Writes the page, UTF-8."""
    path.write_text(sequence_report_html(report), encoding="utf-8")


def sequence_report_html(report: SequenceReport) -> str:
    """The whole page as text."""
    metrics = report.metrics
    charts = "" if report.charts is None else (
        f'<h2>Frame by frame</h2><div class="wide-media">{_img(report.charts, "per frame")}</div>'
    )  # fmt: skip
    notes = "".join(f"<li>{html.escape(text)}</li>" for text in metrics["notes"])
    return Template(_PAGE).substitute(
        title=html.escape(str(metrics["scene"])),
        css=asset("report.css"),
        lead=_lead(metrics),
        tiles=_tiles(metrics),
        viewer_note=(
            f"Drag to turn, wheel or two fingers to come closer, shift-drag to move. Shows "
            f"{grouped(len(report.points))} of {grouped(metrics['num_points'])} points of "
            "points.ply, from predicted cameras."
        ),
        trajectory=_img(report.trajectory, "trajectory from above"),
        charts=charts,
        stills=_stills(report.stills),
        depth=_depth_table(metrics),
        notes=f"<h2>Read with care</h2><ul>{notes}</ul>" if notes else "",
        settings=settings_table(report.settings),
        scene=script_json(_viewer_scene(report)),
        splats=base64.b64encode(_splats(report.points)).decode("ascii"),
        script=asset("viewer.js"),
    )


def _lead(metrics: dict[str, Any]) -> str:
    height, width = metrics["resolution"]
    text = (
        f"{grouped(metrics['frames'])} frames of {width}x{height} pixels, one after the other, "
        f"became {grouped(metrics['num_points'])} points and a trajectory."
    )
    trajectory = metrics["trajectory"]
    if trajectory is None:
        return f"{text} There is no true trajectory to compare with."
    return (
        f"{text} After the best similarity its positions are off by "
        f"<b>{trajectory['ate']:.3g} m</b> (root mean square over {trajectory['frames']} frames)."
    )


def _tiles(metrics: dict[str, Any]) -> str:
    seconds, trajectory, depth = metrics["seconds"], metrics["trajectory"], metrics["depth"]
    tiles = []
    if trajectory is not None:
        tiles += [
            ("main", f"{trajectory['ate']:.3g} <small>m</small>", "ATE after Sim(3) alignment"),
            ("", f"{trajectory['rpe_translation']:.3g} <small>m</small>", "RPE, translation"),
            ("", f"{trajectory['rpe_rotation']:.3g} <small>deg</small>", "RPE, rotation"),
        ]
    if depth:
        name = "scale" if "scale" in depth else next(iter(depth))
        tiles += [
            ("", f"{depth[name]['abs_rel']:.3f}", f"depth Abs Rel, {_words(name)}"),
            ("", f"{100 * depth[name]['delta'][1]:.1f} <small>%</small>", "depth within 1.25"),
        ]
    rate = 1 / seconds["per_frame"] if seconds["per_frame"] > 0 else 0.0
    memory = metrics["peak_memory_mib"]
    tiles += [
        ("", f"{rate:.3g} <small>/ s</small>", "frames, after compiling"),
        ("", grouped(metrics["num_points"]), "points"),
        ("", f"{memory:.0f} <small>MiB</small>", "peak memory of the program"),
    ]
    return "".join(
        f'<div class="tile {kind}"><div class="value">{value}</div>'
        f'<div class="name">{html.escape(name)}</div></div>'
        for kind, value, name in tiles
    )


def _depth_table(metrics: dict[str, Any]) -> str:
    depth = metrics["depth"]
    if not depth:
        return ""
    head = ("Abs Rel", "RMSE", "log RMSE", "&delta; &lt; 1.25", "&delta; &lt; 1.25&sup2;")
    rows = []
    for name, errors in depth.items():
        values = [*(errors[key] for key in DEPTH_ERRORS), *errors["delta"][1:3]]
        cells = "".join(f'<td class="number">{value:.4f}</td>' for value in values)
        rows.append(f"<tr><th>{_words(name)}</th>{cells}</tr>")
    columns = "".join(f'<th class="number">{name}</th>' for name in head)
    count = grouped(next(iter(depth.values()))["valid_pixels"])
    return (
        '<h2>Depth against the truth</h2><p class="note">One alignment for the whole sequence, '
        f'{count} pixels.</p><div class="scroll"><table><tr><th>alignment</th>{columns}</tr>'
        f"{''.join(rows)}</table></div>"
    )


def _stills(stills: list[Still]) -> str:
    """Rows of input, depth and confidence; one colour scale for all depth."""
    known = [still.depth[np.isfinite(still.depth) & (still.depth > 0)] for still in stills]
    known = [values for values in known if values.size]
    far = float(np.quantile(np.concatenate(known), 0.98)) if known else 1.0
    cells = []
    for still in stills:
        depth = np.nan_to_num(still.depth, nan=0.0, posinf=far, neginf=0.0)
        spread = np.log(np.maximum(np.nan_to_num(still.confidence, nan=1.0), 1.0))
        sure = max(float(np.quantile(spread, 0.98)), 1e-3)
        pictures = (
            (still.image, still.name),
            (heat(depth, max(far, 1e-6)), f"depth, 0 to {far:.3g} m"),
            (heat(spread, sure), f"confidence, 1 to {np.exp(min(sure, 20.0)):.3g}"),
        )
        cells += [
            f"<figure>{_picture(picture, caption)}"
            f"<figcaption>{html.escape(caption)}</figcaption></figure>"
            for picture, caption in pictures
        ]
    return "".join(cells)


def _viewer_scene(report: SequenceReport) -> dict[str, Any]:
    """Cameras, pivot and constants for viewer.js."""
    height, width = report.metrics["resolution"]
    finite = np.isfinite(report.poses).reshape(len(report.poses), -1).all(axis=1)
    poses = report.poses[finite]
    poses = poses if len(poses) else np.eye(4)[None]
    chosen = np.unique(np.linspace(0, len(poses) - 1, MAX_VIEWER_CAMERAS).round().astype(int))
    down = poses[:, :3, 1].mean(axis=0)
    down = down / (np.linalg.norm(down) or 1.0)
    points = report.points["xyz"].astype(np.float64)
    centre = np.median(points, axis=0) if len(points) else poses[0, :3, 3]
    reach = float(np.median(np.linalg.norm(poses[:, :3, 3] - centre, axis=-1)))
    sensible = 0.2 * width < report.focal < 10 * width  # not so of an untrained model
    focal = report.focal if sensible else float(width)
    return {
        "background": [0.07, 0.075, 0.09],
        "dilation": 0.3,
        "up": (-down).tolist(),
        "centre": centre.tolist(),
        "radius": max(reach, 1e-3),
        "first": 0,
        "cameras": [
            {
                "name": f"frame {index}", "role": "input", "pose": poses[index].tolist(),
                "intrinsics": [focal, focal, width / 2, height / 2], "height": height,
                "width": width,
            }
            for index in chosen.tolist()
        ],
    }  # fmt: skip


def _splats(points: np.ndarray) -> bytes:
    """Round splats of one size, as the viewer reads them."""
    table = np.zeros(len(points), RECORD)
    if len(points):
        xyz = points["xyz"].astype(np.float64)
        reach = np.median(np.abs(xyz - np.median(xyz, axis=0)).max(axis=1))
        table["scale"] = max(1.2 * float(reach) / np.sqrt(len(points)), 1e-6)
    table["mean"] = points["xyz"]
    table["rgba"][:, :3], table["rgba"][:, 3] = points["rgb"], 235
    table["quaternion"] = (255, 128, 128, 128)
    return table.tobytes()


def _picture(picture: np.ndarray, text: str) -> str:
    kind = ' class="crisp"' if picture.shape[1] < STILL_WIDTH // 2 else ""
    return _img(png_bytes(picture), text, kind)


def _img(png: bytes, text: str, kind: str = "") -> str:
    encoded = base64.b64encode(png).decode("ascii")
    alt = html.escape(text, quote=True)
    return f'<img{kind} src="data:image/png;base64,{encoded}" alt="{alt}" loading="lazy">'


def _words(name: str) -> str:
    return {"metric": "as predicted", "scale_shift": "scale and shift"}.get(name, name)


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title - sequence report</title>
<style>$css
.triple { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: 12px;
  margin-top: 14px; }
</style>
</head>
<body>
<main>
<div class="overline">Sequence report</div>
<h1>$title</h1>
<p class="lead">$lead</p>
<section class="stage">
<div><div class="viewer" id="viewer">
<canvas aria-label="the points, interactive"></canvas>
<p class="fallback" hidden>This browser has no WebGL 2; open points.ply in another viewer.</p>
<div class="bar"><button class="previous" aria-label="previous camera">&larr;</button>
<button class="next" aria-label="next camera">&rarr;</button><span class="label"></span></div>
</div>
<p class="note">$viewer_note</p></div>
<div class="tiles">$tiles</div>
</section>
<h2>Where the camera went</h2>
<div class="wide-media">$trajectory</div>
$depth
$charts
<h2>Some of the frames</h2>
<p class="note">What the model saw, the depth it gave (one colour scale), its confidence.</p>
<div class="triple">$stills</div>
$notes
<h2>Settings</h2>
<div class="scroll">$settings</div>
<footer>Made by tttlrm-jax. This page is one file and loads nothing from the network.</footer>
</main>
<script type="application/json" id="scene">$scene</script>
<script type="text/plain" id="splats">$splats</script>
<script>$script</script>
</body>
</html>
"""
