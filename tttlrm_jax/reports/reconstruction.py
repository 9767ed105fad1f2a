"""One HTML file about one reconstruction: everything embedded, nothing fetched.

Numbers come from the dictionary that also becomes metrics.json, so the two cannot disagree.
"""

import base64
import dataclasses
from typing import Any

import numpy as np
from markupsafe import Markup

from tttlrm_jax.core.geometry.paths import up_direction
from tttlrm_jax.core.types import Gaussians
from tttlrm_jax.export.splats.splat import encode_splat
from tttlrm_jax.export.splats.writable import importance_order, opacity, writable
from tttlrm_jax.reports.camera_plots import NamedCamera, camera_plot, viewer_scene
from tttlrm_jax.reports.comparison import ComparedView, column_names, representative
from tttlrm_jax.reports.heatmap import absolute_error, error_scale, heat
from tttlrm_jax.reports.page import picture, render, uri
from tttlrm_jax.reports.plots import Plot

MAX_VIEWER_GAUSSIANS = 100_000
MAX_COMPARED = 8
MAX_OPEN_ROWS = 16  # longer tables are folded
BAR_SHARE = 78  # percent of its track that the longest bar takes
BASELINE_NAMES = {
    "nearest_input": "nearest input view",
    "mean_colour": "mean colour of the inputs",
    "untrained": "untrained model, same configuration",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Exhibit:
    """What a page shows besides of how a scene came about: as a stream, or as it improved."""

    plot: Plot
    film: bytes  # MP4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """What the page shows. Cameras and Gaussians are in the frame of the input."""

    metrics: dict[str, Any]  # as written to metrics.json
    input_names: list[str]
    inputs: np.ndarray  # [view, height, width, 3] in [0, 1]
    views: list[ComparedView]
    cameras: list[NamedCamera]
    video: bytes  # MP4
    settings: dict[str, str]
    caveats: list[str]
    provenance: str = ""  # what the weights have seen, in sentences; empty: nothing is said
    stream: Exhibit | None = None
    improvement: Exhibit | None = None
    gaussians: Gaussians | None = None  # one scene; None where a network draws the views
    background: tuple[float, float, float] = (1.0, 1.0, 1.0)  # that they are drawn over
    eps2d: float = 0.0  # px^2 at the size of the targets


def report_html(report: Report) -> str:
    """The whole page as text."""
    metrics, stream = report.metrics, report.stream
    names = zip(report.input_names, report.inputs, strict=True)
    return render(
        "reconstruction.html",
        kind="Reconstruction report",
        title=str(metrics["scene"]),
        metrics=metrics,
        gain=metrics["psnr"] - metrics["baselines"]["nearest_input"],
        bars=_bars(metrics),
        stream=stream,
        stream_film=uri(stream.film, "video/mp4") if stream else None,
        improvement=report.improvement,
        improvement_film=uri(report.improvement.film, "video/mp4") if report.improvement else None,
        columns=column_names(report.views),
        inputs=[(name, picture(image)) for name, image in names],
        views=report.views,
        best=max(1e-9, *(view.psnr for view in report.views)),
        max_open_rows=MAX_OPEN_ROWS,
        **_compared(report.views),
        film=uri(report.video, "video/mp4"),
        cameras=camera_plot(report.cameras, _sample_points(report.gaussians)).svg(),
        viewer=_viewer(report),
        caveats=report.caveats,
        provenance=report.provenance,
        settings=report.settings,
    )


def _bars(metrics: dict[str, Any]) -> list[dict[str, Any]]:
    """The model, then the simple answers from good to bad."""
    baselines = sorted(metrics["baselines"].items(), key=lambda item: -item[1])
    rows = [("this model", metrics["psnr"])]
    if "post_optimize" in metrics:
        rows[0] = ("refined on the inputs", metrics["psnr"])
        rows.append(("this model before that", metrics["post_optimize"]["psnr_before"]))
    rows += [(BASELINE_NAMES[name], value) for name, value in baselines]
    top = max(1e-9, *(value for _, value in rows))
    return [
        {"name": name, "psnr": value, "percent": BAR_SHARE * max(value, 0) / top}
        for name, value in rows
    ]


def _compared(views: list[ComparedView]) -> dict[str, Any]:
    """Four pictures per view, and the colour scale of the errors."""
    scale = error_scale([absolute_error(view.rendered, view.target) for view in views])
    shown = []
    for view in (views[index] for index in representative([v.psnr for v in views], MAX_COMPARED)):
        error = absolute_error(view.rendered, view.target)
        shown.append({
            "name": view.name, "psnr": view.psnr, "ssim": view.ssim,
            "baseline_psnr": view.baseline_psnr, "mean_error": float(error.mean()),
            "target": picture(view.target), "rendered": picture(view.rendered),
            "error": picture(heat(error, scale)), "baseline": picture(view.baseline),
            "before": None if view.before is None else picture(view.before),
            "before_psnr": view.before_psnr,
        })  # fmt: skip
    stops = heat(np.linspace(0, scale, 9), scale)
    return {
        "compared": shown,
        "error_scale": scale,
        "error_colours": [f"rgb({r},{g},{b})" for r, g, b in stops],
    }


def _viewer(report: Report) -> dict[str, Any] | None:
    """What viewer.js reads, and how many Gaussians it shows; None where there are none."""
    if report.gaussians is None:
        return None
    splats, count = encode_splat(report.gaussians, max_count=MAX_VIEWER_GAUSSIANS)
    encoded = base64.b64encode(splats).decode("ascii")
    scene = _viewer_scene(report, report.gaussians)
    return {"scene": scene, "splats": encoded, "shown": count.num_written}


def _viewer_scene(report: Report, gaussians: Gaussians) -> Markup:
    centre, radius = _middle(gaussians, report.cameras)
    cameras = [camera for camera in report.cameras if camera.role != "other"]
    cameras.sort(key=lambda camera: camera.role, reverse=True)  # targets first
    best = max(report.views, key=lambda view: view.psnr).name
    names = [camera.name if camera.role == "target" else None for camera in cameras]
    poses = np.stack([camera.world_from_camera for camera in report.cameras])
    return viewer_scene(
        cameras, background=report.background, dilation=report.eps2d, up=up_direction(poses),
        centre=centre, radius=radius, first=names.index(best) if best in names else 0,
    )  # fmt: skip


def _middle(gaussians: Gaussians, cameras: list[NamedCamera]) -> tuple[np.ndarray, float]:
    """Median of the visible Gaussians, and how far the cameras are from it."""
    kept, _ = writable(gaussians)
    visible = opacity(kept.opacity_logit) > 0.1
    points = kept.mean.astype(np.float64)[visible if visible.any() else slice(None)]
    eyes = np.stack([camera.world_from_camera[:3, 3] for camera in cameras])
    centre = np.median(points, axis=0) if len(points) else eyes.mean(axis=0)
    return centre, float(np.median(np.linalg.norm(eyes - centre, axis=-1)))


def _sample_points(gaussians: Gaussians | None, count: int = 700) -> np.ndarray:
    """Positions of some important Gaussians, evenly from the more important half."""
    if gaussians is None:
        return np.zeros((0, 3))
    kept, _ = writable(gaussians, min_opacity=0.1)
    order = importance_order(kept)
    half = order[: max(1, len(order) // 2)]
    return np.asarray(kept.mean, np.float64)[half[:: max(1, len(half) // count)]]
