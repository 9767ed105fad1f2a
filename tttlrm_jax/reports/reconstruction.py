"""One HTML file about one reconstruction: everything embedded, nothing fetched.

Numbers come from the dictionary that also becomes metrics.json, so the two cannot disagree.
"""

import base64
import dataclasses
import html
import io
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from PIL import Image

from tttlrm_jax.core.pictures import png_bytes, to_uint8
from tttlrm_jax.core.types import Gaussians
from tttlrm_jax.export.splat import encode_splat
from tttlrm_jax.export.writable import importance_order, opacity, writable
from tttlrm_jax.reports.camera_plot import NamedCamera, camera_plot, up_direction
from tttlrm_jax.reports.comparison import ComparedView, representative
from tttlrm_jax.reports.heatmap import absolute_error, error_scale, heat
from tttlrm_jax.reports.page import asset, grouped, script_json, settings_table

MAX_VIEWER_GAUSSIANS = 100_000
MAX_COMPARED = 8
MAX_OPEN_ROWS = 16  # longer tables are folded
CRISP_BELOW = 256  # pixels; smaller pictures are embedded as PNG and shown with sharp pixels
BASELINE_NAMES = {
    "nearest_input": "nearest input view",
    "mean_colour": "mean colour of the inputs",
    "untrained": "untrained model, same configuration",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class StreamExhibit:
    """What a page about a stream shows besides."""

    plot: bytes  # PNG
    film: bytes  # MP4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """What the page shows. Cameras and Gaussians are in the frame of the input."""

    metrics: dict[str, Any]  # as written to metrics.json
    input_names: list[str]
    inputs: np.ndarray  # [view, height, width, 3] in [0, 1]
    views: list[ComparedView]
    cameras: list[NamedCamera]
    gaussians: Gaussians  # one scene
    video: bytes  # MP4
    background: tuple[float, float, float]
    eps2d: float  # px^2 at the size of the targets
    settings: dict[str, str]
    caveats: list[str]
    stream: StreamExhibit | None = None


def write_report(path: Path | str, report: Report) -> None:
    """Writes the page, UTF-8."""
    Path(path).write_text(report_html(report), encoding="utf-8")


def report_html(report: Report) -> str:
    """The whole page as text."""
    splats, count = encode_splat(report.gaussians, max_count=MAX_VIEWER_GAUSSIANS)
    metrics = report.metrics
    return Template(_PAGE).substitute(
        title=html.escape(str(metrics["scene"])),
        css=asset("report.css"),
        lead=_lead(metrics),
        tiles=_tiles(metrics),
        viewer_note=_viewer_note(count.num_written, metrics["num_gaussians"]),
        bars=_bars(metrics),
        stream="" if report.stream is None else _stream(report.stream, metrics),
        inputs=_input_strip(report),
        compare=_comparisons(report.views),
        video=_uri(report.video, "video/mp4"),
        cameras=camera_plot(report.cameras, _sample_points(report.gaussians)),
        table=_view_table(report.views, metrics),
        settings=settings_table(report.settings),
        caveats="".join(f"<li>{html.escape(text)}</li>" for text in report.caveats),
        scene=script_json(_viewer_scene(report)),
        splats=base64.b64encode(splats).decode("ascii"),
        script=asset("viewer.js"),
    )


# ---- sentences and numbers ----------------------------------------------------------------------


def _lead(metrics: dict[str, Any]) -> str:
    gain = metrics["psnr"] - metrics["baselines"]["nearest_input"]
    verdict = (
        f"<b>{gain:.1f} dB above</b>" if gain >= 0 else f'<b class="below">{-gain:.1f} dB below</b>'
    )
    views, targets = metrics["input_views"], metrics["target_views"]
    came = f" came in {_count(len(metrics['stream']), 'chunk')} and" if "stream" in metrics else ""
    return (
        f"{_count(views, 'input view')}{came} became {grouped(metrics['num_gaussians'])} "
        f"Gaussians in {_seconds(metrics['seconds']['reconstruct'])}. On "
        f"{_count(targets, 'view')} the model was not given, the rendering reaches "
        f"{metrics['psnr']:.2f} dB PSNR: {verdict} the nearest input view."
    )


def _tiles(metrics: dict[str, Any]) -> str:
    seconds = metrics["seconds"]
    height, width = metrics["resolution"]
    lpips = metrics["lpips"]
    tiles = [
        ("main", f"{metrics['psnr']:.2f} <small>dB</small>", "PSNR, mean over target views"),
        ("", f"{metrics['ssim']:.3f}", "SSIM"),
        ("", "none" if lpips is None else f"{lpips:.3f}", "LPIPS, lower is better"),
        ("", grouped(metrics["num_gaussians"]), "Gaussians"),
        ("", f"{width}\u00d7{height}", "pixels per view"),
        ("", _seconds(seconds["reconstruct"]), "to reconstruct, after compiling"),
        ("", _seconds(seconds["render_per_view"]), "to render a view"),
    ]
    return "".join(
        f'<div class="tile {kind}"><div class="value">{value}</div>'
        f'<div class="name">{html.escape(name)}</div></div>'
        for kind, value, name in tiles
    )


def _bars(metrics: dict[str, Any]) -> str:
    rows: list[tuple[str, float, str]] = [("this model", metrics["psnr"], "mine")]
    rows += [
        (BASELINE_NAMES[name], value, "")
        for name, value in sorted(metrics["baselines"].items(), key=lambda item: -item[1])
    ]
    top = max(1e-9, *(value for _, value, _ in rows))
    return "".join(
        f'<div class="{kind}">{html.escape(name)}</div><div class="track">'
        f'<div class="bar-fill" style="width:{78 * max(value, 0) / top:.1f}%"></div>'
        f"<span>{value:.2f} dB</span></div>"
        for name, value, kind in rows
    )


def _stream(exhibit: StreamExhibit, metrics: dict[str, Any]) -> str:
    entries = metrics["stream"]
    first, last = entries[0], entries[-1]
    text = (
        f"After {_count(first['views_seen'], 'view')} the targets are met with "
        f"{first['psnr']:.2f} dB, after {last['views_seen']} with {last['psnr']:.2f} dB. Each "
        "chunk is written into the fast weights once; the state does not grow."
    )
    return (
        f'<h2>As the views came in</h2><p class="note">{text}</p><div class="wide-media">'
        f'<video src="{_uri(exhibit.film, "video/mp4")}" autoplay loop muted playsinline controls>'
        f'</video><img src="{_uri(exhibit.plot, "image/png")}" alt="PSNR, time per chunk and '
        'memory against views seen"></div>'
    )


def _view_table(views: list[ComparedView], metrics: dict[str, Any]) -> str:
    top = max(1e-9, *(view.psnr for view in views))
    rows = [
        f'<tr><td class="name">{html.escape(view.name)}</td>'
        f'<td class="number">{view.psnr:.2f}</td><td class="inline">'
        f'<i style="width:{100 * max(view.psnr, 0) / top:.0f}%"></i></td>'
        f'<td class="number">{view.ssim:.3f}</td><td class="number">{view.baseline_psnr:.2f}</td>'
        f'<td class="number">{view.psnr - view.baseline_psnr:+.2f}</td></tr>'
        for view in views
    ]
    gain = metrics["psnr"] - metrics["baselines"]["nearest_input"]
    rows.append(
        f'<tr><th>mean of {len(views)}</th><td class="number"><b>{metrics["psnr"]:.2f}</b></td>'
        f'<td></td><td class="number"><b>{metrics["ssim"]:.3f}</b></td><td class="number">'
        f'{metrics["baselines"]["nearest_input"]:.2f}</td><td class="number">{gain:+.2f}</td></tr>'
    )
    names = ("PSNR dB", "", "SSIM", "nearest dB", "gain dB")
    head = "".join(f'<th class="number">{name}</th>' for name in names)
    table = f"<table><tr><th>target view</th>{head}</tr>{''.join(rows)}</table>"
    if len(views) <= MAX_OPEN_ROWS:
        return f'<div class="scroll">{table}</div>'
    summary = f"<summary>All {len(views)} target views</summary>"
    return f'<details>{summary}<div class="scroll">{table}</div></details>'


def _viewer_note(shown: int, total: int) -> str:
    part = "" if shown >= total else (
        f" Shows the {grouped(shown)} most important of {grouped(total)} Gaussians."
    )  # fmt: skip
    return (
        "Drag to turn, wheel or two fingers to come closer, shift-drag to move. "
        f"Colour without view dependence (degree 0).{part}"
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _seconds(value: float) -> str:
    return f"{1000 * value:.0f} ms" if value < 0.9995 else f"{value:.1f} s"


# ---- pictures -----------------------------------------------------------------------------------


def _input_strip(report: Report) -> str:
    return "".join(
        f"<figure>{_picture(image, name)}<figcaption>{html.escape(name)}</figcaption></figure>"
        for name, image in zip(report.input_names, report.inputs, strict=True)
    )


def _comparisons(views: list[ComparedView]) -> str:
    """Four pictures per view, with the colour scale of the errors below."""
    scale = error_scale([absolute_error(view.rendered, view.target) for view in views])
    shown = representative([view.psnr for view in views], MAX_COMPARED)
    names = ("target", "ours", "error", "nearest input view")
    cells = [f'<div class="column">{name}</div>' for name in names]
    for view in (views[index] for index in shown):
        error = absolute_error(view.rendered, view.target)
        for picture, caption in (
            (view.target, view.name),
            (view.rendered, f"ours: {view.psnr:.2f} dB, SSIM {view.ssim:.3f}"),
            (heat(error, scale), f"mean |error| {error.mean():.3f}"),
            (view.baseline, f"nearest input: {view.baseline_psnr:.2f} dB"),
        ):
            picture = _picture(picture, f"{view.name}: {caption}")
            caption = html.escape(caption)
            cells.append(f"<figure>{picture}<figcaption>{caption}</figcaption></figure>")
    stops = heat(np.linspace(0, scale, 9), scale)
    gradient = ", ".join(f"rgb({r},{g},{b})" for r, g, b in stops)
    note = "" if len(shown) == len(views) else (
        f'<p class="note">{len(shown)} of {len(views)} target views, from best to worst.</p>'
    )  # fmt: skip
    return (
        f'{note}<div class="compare">{"".join(cells)}</div><div class="scale note">error 0'
        f'<i style="background:linear-gradient(90deg, {gradient})"></i>{scale:g}</div>'
    )


def _picture(image: np.ndarray, text: str) -> str:
    pixels = image if image.dtype == np.uint8 else to_uint8(image)
    if max(pixels.shape[:2]) < CRISP_BELOW:
        uri, kind = _uri(png_bytes(pixels), "image/png"), ' class="crisp"'
    else:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=88)
        uri, kind = _uri(buffer.getvalue(), "image/jpeg"), ""
    height, width = pixels.shape[:2]
    alt = html.escape(text, quote=True)
    return f'<img{kind} src="{uri}" width="{width}" height="{height}" alt="{alt}" loading="lazy">'


# ---- viewer -------------------------------------------------------------------------------------


def _viewer_scene(report: Report) -> dict[str, Any]:
    """Cameras, pivot and constants for viewer.js."""
    centre, radius = _middle(report.gaussians, report.cameras)
    cameras = [camera for camera in report.cameras if camera.role != "other"]
    cameras.sort(key=lambda camera: camera.role, reverse=True)  # targets first
    best = max(report.views, key=lambda view: view.psnr).name
    names = [camera.name if camera.role == "target" else None for camera in cameras]
    return {
        "background": list(report.background),
        "dilation": report.eps2d,
        "up": up_direction(report.cameras).tolist(),
        "centre": centre.tolist(),
        "radius": radius,
        "first": names.index(best) if best in names else 0,
        "cameras": [
            {
                "name": camera.name,
                "role": camera.role,
                "pose": np.asarray(camera.world_from_camera, np.float64).tolist(),
                "intrinsics": np.asarray(camera.intrinsics, np.float64).tolist(),
                "height": camera.height,
                "width": camera.width,
            }
            for camera in cameras
        ],
    }


def _middle(gaussians: Gaussians, cameras: list[NamedCamera]) -> tuple[np.ndarray, float]:
    """Median of the visible Gaussians, and how far the cameras are from it."""
    kept, _ = writable(gaussians)
    visible = opacity(kept.opacity_logit) > 0.1
    points = kept.mean.astype(np.float64)[visible if visible.any() else slice(None)]
    eyes = np.stack([camera.world_from_camera[:3, 3] for camera in cameras])
    centre = np.median(points, axis=0) if len(points) else eyes.mean(axis=0)
    return centre, float(np.median(np.linalg.norm(eyes - centre, axis=-1)))


def _sample_points(gaussians: Gaussians, count: int = 700) -> np.ndarray:
    """Positions of some important Gaussians, evenly from the more important half."""
    kept, _ = writable(gaussians, min_opacity=0.1)
    order = importance_order(kept)
    half = order[: max(1, len(order) // 2)]
    return kept.mean.astype(np.float64)[half[:: max(1, len(half) // count)]]


def _uri(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title - reconstruction report</title>
<style>$css</style>
</head>
<body>
<main>
<div class="overline">Reconstruction report</div>
<h1>$title</h1>
<p class="lead">$lead</p>
<section class="stage">
<div><div class="viewer" id="viewer">
<canvas aria-label="the reconstruction, interactive"></canvas>
<p class="fallback" hidden>This browser has no WebGL 2. The orbit film below shows the scene.</p>
<div class="bar"><button class="previous" aria-label="previous camera">&larr;</button>
<button class="next" aria-label="next camera">&rarr;</button><span class="label"></span></div>
</div>
<p class="note">$viewer_note</p></div>
<div class="tiles">$tiles</div>
</section>
<h2>Against simple answers</h2>
<p class="note">PSNR on the same target views, same pixels, computed in the same run.</p>
<div class="bars">$bars</div>
$stream
<h2>What went in</h2>
<div class="strip">$inputs</div>
<h2>What came out</h2>
$compare
<h2>Around the scene</h2>
<div class="duo">
<div><video src="$video" autoplay loop muted playsinline controls></video>
<p class="note">orbit.mp4, rendered from the Gaussians alone.</p></div>
<div>$cameras
<div class="legend"><span><i style="background:var(--ours)"></i>input</span>
<span><i style="border:2px solid var(--target)"></i>target</span>
<span><i style="background:var(--other)"></i>not used</span></div></div>
</div>
<h2>Read with care</h2>
<ul>$caveats</ul>
<h2>View by view</h2>
$table
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
