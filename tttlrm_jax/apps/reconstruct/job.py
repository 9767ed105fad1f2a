"""What one evaluation was asked and what it found out."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np

from tttlrm_jax.api.models import SceneModel
from tttlrm_jax.api.reconstruction import Reconstruction
from tttlrm_jax.api.request import OF_GAUSSIANS, REPLACED, RESIZE_MODES, Request
from tttlrm_jax.api.scenes import PosedScene, Scores, score
from tttlrm_jax.api.streams import SceneStream
from tttlrm_jax.api.view_synthesis import SynthesisedScene, ViewReader, ViewSynthesisModel
from tttlrm_jax.apps.view.runs import ScenePage
from tttlrm_jax.captures.capture import Capture
from tttlrm_jax.checkpoints.streams import SavedStream
from tttlrm_jax.config import EvalConfig, RunConfig
from tttlrm_jax.core.geometry.offsets import offset_of, offset_text
from tttlrm_jax.core.types import Cameras
from tttlrm_jax.metrics.lpips import LPIPS
from tttlrm_jax.per_scene import Optimised
from tttlrm_jax.rasterize import Renderer
from tttlrm_jax.reports.growth import GrowthMoment


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answer:
    """Pictures [target, height, width, 3] and what they score."""

    pictures: np.ndarray
    scores: Scores


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """All that an evaluation works on, read and checked."""

    config: EvalConfig
    model: SceneModel | ViewSynthesisModel
    request: Request
    capture: Capture
    seen: PosedScene  # as the model sees it
    scene: PosedScene  # as it is shown and scored: with more pixels where Gaussians are improved
    lpips: LPIPS | None
    lpips_note: str
    output: Path  # directory that the files will be in
    saved: SavedStream | None = None  # what a stream goes on from
    page: ScenePage | None = None  # in a browser

    @property
    def run(self) -> RunConfig:
        """The configuration of the checkpoint."""
        return self.model.run

    @property
    def checkpoint(self) -> Path:
        return self.model.path

    @property
    def settings(self) -> dict[str, Any]:
        """What the weights were trained with, unless an option of eval.py took its place."""
        run, request = self.run, self.request
        read = {
            name: getattr(getattr(run, part), name) for part in REPLACED for name in REPLACED[part]
        }
        asked = {
            name: getattr(request, name) for name in ("chunk_views", "keep_ratio", "random_ratio")
        }
        fits = {mode: fit for fit, mode in RESIZE_MODES.items()}
        every = read | asked | {"fit": fits[run.data.capture_resize]}
        if isinstance(self.model, SceneModel):
            return every
        return {name: value for name, value in every.items() if name not in OF_GAUSSIANS}

    @property
    def cameras_seen(self) -> Cameras:
        """Of all input views [view, ...], those of a saved stream first."""
        new = jax.tree.map(lambda x: np.asarray(x[0]), self.seen.inputs.cameras)
        if self.saved is None:
            return new
        earlier = self.saved.scene.cameras
        return jax.tree.map(lambda a, b: np.concatenate([a, b]), earlier, new)

    @property
    def notes(self) -> list[str]:
        """What was guessed or left out, a sentence each; for metrics.json, console and page."""
        size = resolution_notes(self)
        return [*self.capture.notes, *offset_notes(self.offset), *self.scene.notes, *size]

    @property
    def offset(self) -> np.ndarray:
        """What positions in files and on the page are relative to, float64 [3]."""
        return offset_of(self.scene.similarity)

    @property
    def film_target(self) -> int:
        """Number of the target view that the film of a stream shows."""
        return len(self.scene.target_names) // 2

    def render_seconds(self, renderer: Renderer | ViewReader) -> dict[str, float]:
        """Of its last rendering, that of the targets, per view, and of compiling."""
        return {
            "render_per_view": renderer.seconds / len(self.scene.target_names),
            "render_compile": renderer.compile_seconds,
        }

    def answer(self, pictures: np.ndarray) -> Answer:
        """Pictures of the targets with their scores."""
        return Answer(pictures=pictures, scores=score(pictures, self.scene, self.lpips))


@dataclasses.dataclass(frozen=True, kw_only=True)
class StreamHistory:
    """A stream from its first chunk to its last."""

    stream: SceneStream  # after the last chunk
    chunks: list[dict[str, Any]]  # of each, as in metrics.json; memory in bytes
    growth: list[tuple[GrowthMoment, np.ndarray]]  # after each, and its frames of the orbit


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluated:
    """All that one evaluation found out."""

    reconstruction: Reconstruction | SynthesisedScene
    ours: Answer
    baselines: dict[str, Answer]
    seconds: dict[str, float]
    stream: StreamHistory | None = None  # of the causal plan
    unrefined: Answer | None = None  # where the Gaussians were refined on the inputs
    refinement: Optimised | None = None  # what is known of that


def resolution_notes(job: Job) -> list[str]:
    """What to say where pictures are shown in other sizes than the model sees."""
    shown, own = job.scene.resolution, job.capture.image_size()
    if shown == job.seen.resolution:
        return []
    height, width = job.seen.resolution
    text = f"resolution: the model sees {width}x{height} pixels, Gaussians are improved and scored "
    text += f"at {shown[1]}x{shown[0]}"
    if shown[0] * shown[1] < own[0] * own[1]:
        text += f" of the capture's {own[1]}x{own[0]} (--resolution)"
    return [text]


def offset_notes(offset: np.ndarray) -> list[str]:
    """What to say of coordinates; nothing where they are those of the capture."""
    if not offset.any():
        return []
    return [
        "coordinates: the capture lies far from its origin, so positions in files and on the page "
        f"are relative to the offset {offset_text(offset)}; add it in double precision"
    ]
