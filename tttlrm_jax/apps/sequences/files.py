"""What `eval.py --model ttt3r` writes: everything per frame at once, the summary at the end.

A program that is stopped leaves what it has written readable: the trajectory and frames.jsonl end
with the last frame, points.ply says how many points it holds, depth maps are whole files.
"""

import collections
import contextlib
import dataclasses
import json
import resource
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from tttlrm_jax.api.poses.drift import Closed
from tttlrm_jax.api.sequences import FrameResult
from tttlrm_jax.apps.sequences.cameras import CAMERAS, MAX_POINTS, SequenceCameras
from tttlrm_jax.apps.sequences.scores import SequenceScores
from tttlrm_jax.captures.pictures.depth_files import write_png_depth
from tttlrm_jax.config.evaluation import SequenceEvalConfig
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.files.json_values import finite
from tttlrm_jax.core.files.output_directory import check_replaceable, creation_errors
from tttlrm_jax.core.geometry.pointmaps import weiszfeld_focal
from tttlrm_jax.export.point_stream import PointStream
from tttlrm_jax.export.trajectories import TrajectoryFile, write_trajectory
from tttlrm_jax.metrics.trajectory import TrajectoryErrors
from tttlrm_jax.reports.camera_plots import trajectory_plot
from tttlrm_jax.reports.plots import Panel, Plot, Series, line_charts
from tttlrm_jax.reports.sequence import (
    MAX_VIEWER_POINTS,
    SequenceReport,
    Stills,
    sequence_report_html,
)
from tttlrm_jax.sequences.frame_images import Fit
from tttlrm_jax.sequences.sequence import Sequence

SCRATCH = ".scores"
OWN_FILES = (
    "trajectory.txt", "trajectory_pose_graph.txt", "ground_truth.txt", "points.ply",
    "points.thinned", "depth", "frames.jsonl", "trajectory.png", "frames.png", "report.html",
    "metrics.json", CAMERAS, SCRATCH,
)  # fmt: skip
RECORD = "frames.jsonl"  # begun with every run
MAX_CHART_POINTS = 512
LITTLE_MOTION = 2e-3  # metres: what tracking systems are sure of


@dataclasses.dataclass(frozen=True, kw_only=True)
class SequenceJob:
    """What was decided before the first frame."""

    config: SequenceEvalConfig
    sequence: Sequence
    fit: Fit
    rule: str  # name and options, as shown
    checkpoint: str
    notes: tuple[str, ...] = ()


def prepare_directory(output: Path) -> Path:
    """Makes an empty directory; one that holds files of this command alone is emptied.

    Raises InputError where it holds anything else or cannot be written.
    """
    check_replaceable(output, OWN_FILES, "output")
    if output.is_dir() and any(output.iterdir()) and not (output / RECORD).is_file():
        raise InputError.of(
            "output", output, f"holds files but no {RECORD}, so they may be of another program",
            "choose a new directory or empty it",
        )  # fmt: skip
    with creation_errors(output):
        if output.exists():
            shutil.rmtree(output)
        output.mkdir(parents=True)
    return output


class SequenceFiles:
    """Takes frame after frame; `finish` adds plot, report and metrics."""

    def __init__(self, directory: Path, job: SequenceJob):
        self._directory, self._job, config = directory, job, job.config
        self._trajectory = TrajectoryFile(directory / "trajectory.txt")
        self._truth = (
            TrajectoryFile(directory / "ground_truth.txt") if job.sequence.has_poses else None
        )
        self._points = PointStream(directory / "points.ply", config.max_points, config.seed)
        self._lines = (directory / RECORD).open("w", encoding="utf-8")
        if config.depth_format != "none":
            (directory / "depth").mkdir()
        self._scores = SequenceScores(
            directory / SCRATCH, job.fit, intrinsics=job.sequence.intrinsics,
            max_depth=config.max_depth, reconstruction=config.reconstruction,
        )  # fmt: skip
        self._cameras = SequenceCameras(directory, config.write_cameras, job.fit)
        self._stills = Stills()
        self._per_frame = collections.defaultdict[str, list[float]](list)
        self._times: list[float] = []
        self.num_frames = 0

    def add(self, result: FrameResult) -> None:
        """Writes one frame's results through to the disk."""
        frame, prediction = result.frame, result.prediction
        depth = prediction.points_self[..., 2]
        self._write_depth(depth)
        sure = prediction.confidence_self >= self._job.config.min_confidence
        self._points.add(result.points_world[sure], result.image[sure])
        self._trajectory.add(frame.time, result.world_from_camera)
        if self._truth is not None and frame.world_from_camera is not None:
            self._truth.add(frame.time, frame.world_from_camera)
        self._scores.add(result)
        self._cameras.add(result)
        self._stills.offer(frame.name, result.image, depth, prediction.confidence_self)
        numbers = {
            "seconds": result.seconds,
            "gate": prediction.gate,
            "confidence": float(np.median(prediction.confidence_self)),
            "focal": float(weiszfeld_focal(prediction.points_self)),
        }
        for name, value in numbers.items():
            self._per_frame[name].append(value)
        self._times.append(frame.time)
        line = {"frame": self.num_frames, "name": frame.name, "time": frame.time, **numbers}
        self._lines.write(json.dumps(finite(line)) + "\n")
        self._lines.flush()
        self.num_frames += 1

    def _write_depth(self, depth: np.ndarray) -> None:
        path = self._directory / "depth" / f"{self.num_frames:06d}"
        if self._job.config.depth_format == "png":
            write_png_depth(path.with_suffix(".png"), depth)
        elif self._job.config.depth_format == "npy":
            np.save(path.with_suffix(".npy"), depth.astype(np.float32))

    def finish(
        self, stopped: str | None = None, more: Iterable[str] = (), closed: Closed | None = None
    ) -> dict[str, Any]:
        """Scores, draws and writes the summary; `stopped` says why it ended early, `more` are
        notes, `closed` is a second trajectory."""
        note = self._job.sequence.shortfall(self.num_frames, self._times[-1] - self._times[0])
        if stopped is not None:
            note = f"ended after {self.num_frames} frames: {stopped}"
        notes = [*self._job.notes, *more, *([] if note is None else [note])]
        notes += self._cameras.write(self._scores.predicted, self._points.sample(MAX_POINTS))
        metrics, shown = self._scored(notes)
        metrics["pose_graph"] = None if closed is None else self._pose_graph(closed, notes)
        plot = self._plot(shown, metrics)
        (self._directory / "trajectory.png").write_bytes(plot.png())
        charts = self._charts() if self.num_frames > 2 else None
        if charts is not None:
            (self._directory / "frames.png").write_bytes(charts.png())
        wild = sum(not np.isfinite(pose).all() for pose in self._scores.predicted)
        if wild:
            notes.append(f"{wild} of {self.num_frames} predicted poses are not finite")
        text = json.dumps(finite(metrics), indent=1)
        (self._directory / "metrics.json").write_text(text + "\n", encoding="utf-8")
        report = SequenceReport(
            metrics=metrics, trajectory=plot, charts=charts, stills=self._stills.chosen,
            points=self._points.sample(MAX_VIEWER_POINTS), poses=np.stack(self._scores.predicted),
            focal=float(np.median(self._per_frame["focal"])), settings=self._settings(),
        )  # fmt: skip
        page = sequence_report_html(report)
        (self._directory / "report.html").write_text(page, encoding="utf-8")
        return metrics

    def close(self) -> None:
        """Closes every file and removes the scratch folder."""
        for each in (self._trajectory, self._truth, self._points, self._lines, self._scores):
            if each is not None:
                each.close()

    def _scored(self, notes: list[str]) -> tuple[dict[str, Any], Any]:
        """metrics.json, and the aligned and true poses for the plot."""
        config, sequence = self._job.config, self._job.sequence
        found = _tried("trajectory", self._scores.trajectory, notes)
        trajectory = None
        if found is not None:
            errors = found[0]
            notes += hardly_moves(errors)
            trajectory = {
                "frames": len(errors.aligned), "ate": errors.ate,
                "rpe_translation": errors.rpe_translation, "rpe_rotation": errors.rpe_rotation,
                "scale": errors.alignment.scale, "ate_at_rest": errors.ate_at_rest,
            }  # fmt: skip
        depth = _tried(
            "depth", lambda: self._scores.depth(config.depth_alignments, config.clip_depth), notes
        )
        points = None
        if config.reconstruction:
            points = _tried("reconstruction", self._scores.reconstruction, notes)
        notes += self._scores.notes()
        seconds = self._per_frame["seconds"]
        return {
            "scene": sequence.name, "kind": sequence.kind, "model": "ttt3r",
            "frames": self.num_frames, "resolution": list(self._job.fit.output),
            "rule": self._job.rule, "reset_every": config.reset_every,
            "behaviour": config.behaviour, "poses": config.poses,
            "checkpoint": self._job.checkpoint, "num_points": self._points.num_points,
            "trajectory": trajectory, "depth": depth, "reconstruction": points,
            "seconds": {
                "per_frame": float(np.median(seconds[1:] or seconds)), "first_frame": seconds[0],
                "total": float(np.sum(seconds)),
            },
            "peak_memory_mib": peak_memory_mib(), "device": jax.devices()[0].device_kind,
            "notes": notes,
        }, found  # fmt: skip

    def _pose_graph(self, closed: Closed, notes: list[str]) -> dict[str, Any]:
        """Writes the second trajectory; what metrics.json says of it."""
        poses = closed.world_from_camera
        write_trajectory(self._directory / "trajectory_pose_graph.txt", self._times, poses)
        if not closed.loops:
            notes.append(
                f"no loop holds of {closed.tried} pairs of frames that look alike: "
                "trajectory_pose_graph.txt is trajectory.txt"
            )
        found = _tried("pose graph", lambda: self._scores.trajectory(poses), notes)
        return {
            "loops": len(closed.loops), "tried": closed.tried,
            "pairs": [list(pair) for pair in closed.loops],
            "ate": None if found is None else found[0].ate,
        }  # fmt: skip

    def _plot(self, found: Any, metrics: dict[str, Any]) -> Plot:
        title = f"{metrics['scene']}: {metrics['frames']} frames, rule {metrics['rule']}"
        if found is None:
            poses = np.stack(self._scores.predicted)
            finite = np.isfinite(poses).reshape(len(poses), -1).all(axis=1)
            poses = poses[finite] if finite.any() else np.eye(4)[None]
            return trajectory_plot(poses, None, title)
        errors, true = found
        return trajectory_plot(errors.aligned, true, f"{title}, ATE {errors.ate:.3g} m")

    def _charts(self) -> Plot:
        """Values per frame, means over neighbours where there are many frames."""
        block = -(-self.num_frames // MAX_CHART_POINTS)
        starts = np.arange(0, self.num_frames, block)

        def thinned(name: str) -> list[float]:
            values = np.array(self._per_frame[name])
            return [float(np.mean(values[start : start + block])) for start in starts]

        milliseconds = [1000 * value for value in thinned("seconds")]
        milliseconds[0] = float("nan")  # compiles
        panels = [
            Panel(title="Time per frame", unit="ms",
                  series=[Series(name="time", values=milliseconds)]),
            Panel(title="Mean rate of state tokens", unit="rate, 0 to 1",
                  series=[Series(name="rate", values=thinned("gate"))]),
            Panel(title="Median confidence", unit="confidence, from 1", from_zero=False,
                  series=[Series(name="confidence", values=thinned("confidence"))]),
            Panel(title="Focal length", unit="pixels", from_zero=False,
                  series=[Series(name="focal", values=thinned("focal"))]),
        ]  # fmt: skip
        subtitle = "as the sequence went on" + (f"; means of {block} frames" if block > 1 else "")
        return line_charts(self._job.sequence.name, subtitle, starts.tolist(), "frame", panels)

    def _settings(self) -> dict[str, str]:
        fields = dataclasses.asdict(self._job.config)
        shown = {name: str(value) for name, value in fields.items() if value is not None}
        return {"rule": self._job.rule, **shown}


def peak_memory_mib() -> float:
    """Largest resident set of this process so far, what it was started from not counted where the
    system says so (Linux)."""
    with contextlib.suppress(OSError, StopIteration, ValueError):
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def hardly_moves(errors: TrajectoryErrors) -> list[str]:
    """A note where the true camera moves so little that an ATE cannot be large."""
    if errors.ate_at_rest >= LITTLE_MOTION:
        return []
    return [
        f"the true camera hardly moves, by {errors.ate_at_rest:.1g} (root mean square): no ATE can "
        "be larger, and a small one says little"
    ]


def _tried(what: str, score, notes: list[str]):
    """A score, or None and a note that says why there is none."""
    try:
        return score()
    except InputError as error:
        notes.append(f"{what} is not scored: {error}")
        return None
