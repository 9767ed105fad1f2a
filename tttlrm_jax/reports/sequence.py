"""One HTML file about one sequence: everything embedded, nothing fetched.

Numbers come from the dictionary that also becomes metrics.json, so the two cannot disagree.
"""

import base64
import dataclasses
from typing import Any

import numpy as np
from markupsafe import Markup

from tttlrm_jax.core.geometry.paths import up_direction
from tttlrm_jax.export.splats.splat import RECORD
from tttlrm_jax.reports.camera_plots import NamedCamera, viewer_scene
from tttlrm_jax.reports.heatmap import heat
from tttlrm_jax.reports.page import Picture, picture, render
from tttlrm_jax.reports.plots import Plot

MAX_VIEWER_POINTS = 60_000
MAX_VIEWER_CAMERAS = 24
MAX_STILLS = 12  # frames shown at most; the step between them doubles when there are more
STILL_WIDTH = 200  # pixels
CRISP_BELOW = 100  # pixels; smaller stills are shown with sharp pixels


@dataclasses.dataclass(frozen=True)
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
            small = (np.array(each[::step, ::step]) for each in (image, depth, confidence))
            self.chosen.append(Still(name, *small))
            if len(self.chosen) > MAX_STILLS:
                self.chosen, self._every = self.chosen[::2], 2 * self._every
        self._seen += 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class SequenceReport:
    """What the page shows."""

    metrics: dict[str, Any]  # as written to metrics.json
    trajectory: Plot
    charts: Plot | None  # of values per frame
    stills: list[Still]
    points: np.ndarray  # vertices of `point_stream`, some of them
    poses: np.ndarray  # [frame, 4, 4] predicted
    focal: float  # pixels
    settings: dict[str, str]


def sequence_report_html(report: SequenceReport) -> str:
    """The whole page as text."""
    metrics = report.metrics
    seconds = metrics["seconds"]["per_frame"]
    return render(
        "sequence.html",
        kind="Sequence report",
        title=str(metrics["scene"]),
        metrics=metrics,
        shown=len(report.points),
        rate=1 / seconds if seconds > 0 else 0.0,
        trajectory_plot=report.trajectory.svg(),
        charts=None if report.charts is None else report.charts.svg(),
        stills=_stills(report.stills),
        settings=report.settings,
        scene=_viewer_scene(report),
        splats=base64.b64encode(_splats(report.points)).decode("ascii"),
    )


def _stills(stills: list[Still]) -> list[tuple[Picture, str]]:
    """Input, depth and confidence of every still with captions; one colour scale for all depth."""
    known = [still.depth[np.isfinite(still.depth) & (still.depth > 0)] for still in stills]
    known = [values for values in known if values.size]
    far = float(np.quantile(np.concatenate(known), 0.98)) if known else 1.0
    shown = []
    for still in stills:
        depth = np.nan_to_num(still.depth, nan=0.0, posinf=far, neginf=0.0)
        spread = np.log(np.maximum(np.nan_to_num(still.confidence, nan=1.0), 1.0))
        sure = max(float(np.quantile(spread, 0.98)), 1e-3)
        shown += [
            (still.image, still.name),
            (heat(depth, max(far, 1e-6)), f"depth, 0 to {far:.3g} m"),
            (heat(spread, sure), f"confidence, 1 to {np.exp(min(sure, 20.0)):.3g}"),
        ]
    return [(picture(image, crisp_below=CRISP_BELOW), caption) for image, caption in shown]


def _viewer_scene(report: SequenceReport) -> Markup:
    height, width = report.metrics["resolution"]
    finite = np.isfinite(report.poses).reshape(len(report.poses), -1).all(axis=1)
    poses = report.poses[finite]
    poses = poses if len(poses) else np.eye(4)[None]
    chosen = np.unique(np.linspace(0, len(poses) - 1, MAX_VIEWER_CAMERAS).round().astype(int))
    points = report.points["xyz"].astype(np.float64)
    centre = np.median(points, axis=0) if len(points) else poses[0, :3, 3]
    reach = float(np.median(np.linalg.norm(poses[:, :3, 3] - centre, axis=-1)))
    sensible = 0.2 * width < report.focal < 10 * width  # not so of an untrained model
    focal = report.focal if sensible else float(width)
    lens = np.array([focal, focal, width / 2, height / 2])
    cameras = [
        NamedCamera(
            name=f"frame {index}", role="input", world_from_camera=poses[index], intrinsics=lens,
            height=height, width=width,
        )
        for index in chosen
    ]  # fmt: skip
    return viewer_scene(
        cameras, background=(0.07, 0.075, 0.09), dilation=0.3, up=up_direction(poses),
        centre=centre, radius=max(reach, 1e-3),
    )  # fmt: skip


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
