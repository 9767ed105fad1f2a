"""What one evaluation was asked and what it found out."""

import dataclasses
from pathlib import Path

import jax
import numpy as np

from tttlrm_jax.api.models import SceneModel
from tttlrm_jax.api.reconstruction import Reconstruction
from tttlrm_jax.api.request import Request
from tttlrm_jax.api.scenes import PosedScene, Scores
from tttlrm_jax.api.streams import SceneStream
from tttlrm_jax.captures.capture import Capture
from tttlrm_jax.checkpoints.streams import SavedStream
from tttlrm_jax.config import EvalConfig, RunConfig
from tttlrm_jax.core.types import Cameras
from tttlrm_jax.metrics.lpips import LPIPS
from tttlrm_jax.models.live_stream import ChunkCost, StreamScene


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """All that an evaluation works on, read and checked."""

    config: EvalConfig
    model: SceneModel
    request: Request
    capture: Capture
    scene: PosedScene
    lpips: LPIPS | None
    lpips_note: str
    saved: SavedStream | None = None  # what a stream goes on from

    @property
    def run(self) -> RunConfig:
        """The configuration of the checkpoint."""
        return self.model.run

    @property
    def checkpoint(self) -> Path:
        return self.model.path

    @property
    def cameras_seen(self) -> Cameras:
        """Of all input views [view, ...], those of a saved stream first."""
        new = jax.tree.map(lambda x: np.asarray(x[0]), self.scene.inputs.cameras)
        if self.saved is None:
            return new
        earlier = self.saved.scene.cameras
        return jax.tree.map(lambda a, b: np.concatenate([a, b]), earlier, new)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answer:
    """Pictures [target, height, width, 3] and what they score."""

    pictures: np.ndarray
    scores: Scores


@dataclasses.dataclass(frozen=True, kw_only=True)
class Refinement:
    """What refining the Gaussians on the input views started from."""

    before: Answer
    losses: np.ndarray  # before each step


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChunkRecord:
    """What was measured after a chunk."""

    views: int  # in the chunk
    views_seen: int  # by the stream, this chunk included
    cost: ChunkCost
    psnr: np.ndarray  # [target] dB
    ssim: np.ndarray  # [target]
    num_gaussians: int
    sizes: dict[str, int]  # bytes of state, Gaussians, kept views


@dataclasses.dataclass(frozen=True, kw_only=True)
class Growth:
    """Pictures of the time after one chunk, uint8."""

    rendered: np.ndarray  # [height, width, 3], always the same target view
    orbit: np.ndarray  # [frame, height, width, 3] from a path around the scene


@dataclasses.dataclass(frozen=True, kw_only=True)
class StreamHistory:
    """A stream from its first chunk to its last."""

    stream: SceneStream  # after the last chunk
    scene: StreamScene  # of it
    records: list[ChunkRecord]
    growth: list[Growth]
    shown_target: int  # number of the target view in `growth`
    step_bytes: int | None  # memory of the compiled step, parameters included


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluated:
    """All that one evaluation found out."""

    reconstruction: Reconstruction
    ours: Answer
    baselines: dict[str, Answer]
    seconds: dict[str, float]
    stream: StreamHistory | None = None  # of the causal plan
    refinement: Refinement | None = None  # where the Gaussians were refined on the inputs
