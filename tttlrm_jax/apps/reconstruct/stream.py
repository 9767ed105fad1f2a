"""The causal plan of `eval.py`: a capture streamed chunk by chunk, from the start or a saved state.

The frame of coordinates is fixed by the views of the first chunk alone. Whatever comes later, and
whatever a later command adds to the saved state, is moved by that same similarity.
"""

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tttlrm_jax.api.scenes import (
    Answer,
    Evaluated,
    Renderer,
    Settings,
    baseline_pictures,
    score,
)
from tttlrm_jax.apps.progress import step
from tttlrm_jax.apps.reconstruct.files import Job, orbit_cameras
from tttlrm_jax.captures.capture import Capture
from tttlrm_jax.checkpoints.streams import (
    STATE_FILES,
    SavedStream,
    StreamRecord,
    fingerprint,
    write_stream,
)
from tttlrm_jax.config import EvalConfig, RunConfig
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.geometry.poses import PoseNormalisation, first_chunk_normalisation, has_extent
from tttlrm_jax.core.output_directory import atomic_directory
from tttlrm_jax.core.pictures import to_uint8
from tttlrm_jax.core.types import Cameras, Views
from tttlrm_jax.metrics.lpips import LPIPS
from tttlrm_jax.models import build_model, split_model
from tttlrm_jax.models.live_stream import (
    ChunkRecord,
    Growth,
    LiveStream,
    StreamHistory,
    StreamScene,
    StreamSettings,
    filled_up,
)
from tttlrm_jax.reports.growth import reduced
from tttlrm_jax.ttt.rules import override_rule

MIN_FRAMES, MAX_FRAMES = 4, 12  # of growth.mp4 per chunk
LAST_CHUNK = 3  # times as long as the others


def check_stream_options(config: EvalConfig, settings: Settings, saved: StreamRecord | None):
    """Raises InputError for options that only a stream has, and ones a saved stream has fixed."""
    for field in ("accumulate", "first_distance", "save_state", "load_state"):
        value = getattr(config, field)
        if value is not None and settings.plan != "causal":
            raise InputError.of(
                field, value, f"belongs to a stream, and the plan is {settings.plan}",
                "add --plan causal",
            )  # fmt: skip
    for field in ("resolution", "background", "accumulate", "first_distance"):
        value, fixed = getattr(config, field), None if saved is None else getattr(saved, field, "")
        if saved is not None and value is not None and value != fixed:
            what = f"is not the {fixed}" if fixed else "cannot change what was fixed by the start"
            raise InputError.of(
                field, value, f"{what} of the state {config.load_state}", "leave it out"
            )


def with_rule(run: RunConfig, config: EvalConfig, saved: StreamRecord | None) -> RunConfig:
    """The run with the wanted update rule; that of a saved stream where none is named."""
    if config.rule is None and saved is not None:
        return dataclasses.replace(run, model=dataclasses.replace(run.model, rule=saved.model.rule))
    return dataclasses.replace(run, model=override_rule(run.model, config.rule))


def stream_frame(
    capture: Capture, first_chunk: np.ndarray, config: EvalConfig, run: RunConfig
) -> tuple[PoseNormalisation, bool]:
    """The similarity from the first chunk's frames, and whether these gave it a scale."""
    poses = capture.world_from_camera[first_chunk]
    distance = 1.0 if config.first_distance is None else config.first_distance
    similarity = first_chunk_normalisation(poses, run.data.pose_normalisation, distance)
    return similarity, has_extent(poses)


def measure_stream(model, job: Job, lpips: LPIPS | None) -> Evaluated:
    """Streams the inputs; renders and scores the same targets after every chunk."""
    settings = _stream_settings(job)
    with step("compiling the stream"):
        live = LiveStream(model, settings)
    params = split_model(model)[1]
    start = live.start(params) if job.saved is None else job.saved.scene
    rendering = _Rendering(job, live.most_gaussians(start, len(job.scene.input_names)))
    history = _stream(live, params, start, job, rendering)
    with step("scoring"):
        ours = rendering.answer(history.scene, job, lpips)
    with step("baselines"):
        baselines = {
            name: Answer(pictures=pictures, scores=score(pictures, job.scene, lpips))
            for name, pictures in baseline_pictures(job.scene).items()
        }
        untrained = split_model(build_model(job.run.model, job.settings.seed))[1]
        scene = live.start(untrained)
        for _, views in _chunks(job.scene.inputs, settings.chunk_views):
            scene = live.advance(untrained, scene, views)[0]
        baselines["untrained"] = rendering.answer(scene, job, lpips)
    costs = [record.cost for record in history.records]
    return Evaluated(
        gaussians=jax.tree.map(jnp.asarray, history.scene.gaussians),
        ours=ours,
        baselines=baselines,
        seconds={
            "reconstruct": sum(cost.step + cost.reread for cost in costs),
            "reconstruct_compile": live.compile_seconds,
            **rendering.seconds(),
        },
        stream=history,
    )


def _stream(live: LiveStream, params, scene: StreamScene, job: Job, rendering) -> StreamHistory:
    """Chunk after chunk: what was measured, and pictures for the film."""
    records, growth = [], []
    chunks = list(_chunks(job.scene.inputs, live.settings.chunk_views))
    film = _Film(job, len(chunks), rendering.count)
    shown = len(job.scene.target_names) // 2
    for index, views in chunks:
        with step(f"chunk {index + 1} of {len(chunks)}"):
            scene, cost = live.advance(params, scene, views)
            pictures = rendering(scene)
            scores = score(pictures, job.scene)
            record = ChunkRecord(
                views=views.image.shape[1],
                views_seen=scene.num_views,
                cost=cost,
                psnr=scores.psnr,
                ssim=scores.ssim,
                num_gaussians=len(scene.gaussians.mean),
                sizes=scene.sizes(),
            )
            orbit = film(scene, index)
        records.append(record)
        growth.append(Growth(rendered=to_uint8(pictures[shown]), orbit=orbit))
    return StreamHistory(
        scene=scene,
        records=records,
        growth=growth,
        shown_target=shown,
        step_bytes=live.step_bytes,
    )


class _Film:
    """Pictures of an orbit that goes on from chunk to chunk."""

    def __init__(self, job: Job, num_chunks: int, count: int):
        self._per_chunk = _frames_per_chunk(job.config.orbit_frames, num_chunks)
        frames = self._per_chunk * (num_chunks + LAST_CHUNK - 1)
        self._cameras, raster = orbit_cameras(job, frames)
        self._render = Renderer(self._portion(0), job.settings.background, raster)
        self._num_chunks, self._count = num_chunks, count

    def __call__(self, scene: StreamScene, index: int) -> np.ndarray:
        """Frames uint8 [frame, height, width, 3] after this chunk."""
        gaussians = filled_up(scene.gaussians, self._count)
        portions = LAST_CHUNK if index == self._num_chunks - 1 else 1
        pictures = [
            self._render(gaussians, self._portion(portion)).value
            for portion in range(index, index + portions)
        ]
        return np.stack([reduced(to_uint8(picture)) for part in pictures for picture in part])

    def _portion(self, index: int) -> Cameras:
        return self._cameras[index * self._per_chunk : (index + 1) * self._per_chunk]


class _Rendering:
    """Target pictures of scenes of any size up to `count` Gaussians, by one program."""

    def __init__(self, job: Job, count: int):
        cameras = jax.tree.map(lambda x: x[0], job.scene.targets.cameras)
        self._render = Renderer(cameras, job.settings.background, job.run.raster)
        self.count = count
        self._last = None

    def __call__(self, scene: StreamScene) -> np.ndarray:
        self._last = self._render(filled_up(scene.gaussians, self.count))
        return self._last.value

    def answer(self, scene: StreamScene, job: Job, lpips: LPIPS | None) -> Answer:
        pictures = self(scene)
        return Answer(pictures=pictures, scores=score(pictures, job.scene, lpips))

    def seconds(self) -> dict[str, float]:
        """Of the last rendering, per view, and of compiling."""
        last = self._last
        assert last is not None
        return {
            "render_per_view": last.seconds / len(last.value),
            "render_compile": last.compile_seconds,
        }


def _chunks(views: Views, chunk_views: int) -> Iterator[tuple[int, Views]]:
    """Numbered chunks `[1, view, ...]` in order; the last may be smaller."""
    for index, first in enumerate(range(0, views.image.shape[1], chunk_views)):
        where = slice(first, first + chunk_views)
        yield index, jax.tree.map(lambda x, w=where: x[:, w], views)


def _frames_per_chunk(orbit_frames: int, num_chunks: int) -> int:
    """Of the growing film, which has about as many frames as the orbit and half its speed."""
    wanted = -(-orbit_frames // num_chunks)
    return min(max(wanted, min(MIN_FRAMES, orbit_frames)), MAX_FRAMES)


def _stream_settings(job: Job) -> StreamSettings:
    settings = job.settings
    height, width = job.scene.targets.image.shape[2:4]
    return StreamSettings(
        height=height, width=width, chunk_views=settings.chunk_views,
        accumulate=settings.accumulate, keep_ratio=settings.keep_ratio,
        random_ratio=settings.random_ratio, seed=settings.seed,
    )  # fmt: skip


# ---- saved states -------------------------------------------------------------------------------


@contextlib.contextmanager
def state_directory(config: EvalConfig, output: Path) -> Iterator[Path | None]:
    """A directory for the new state that appears at the end, complete; None if none is wanted.

    Raises InputError before anything is written where a state is there already and may not be
    replaced, or where it would lie in the output directory or the other way round.
    """
    if config.save_state is None:
        yield None
        return
    target = Path(config.save_state)
    first, second = (path.absolute().resolve() for path in (target, output))
    if first.is_relative_to(second) or second.is_relative_to(first):
        raise InputError.of(
            "save_state", target, f"and the output directory {output} lie within each other",
            "choose another directory",
        )  # fmt: skip
    if os.path.lexists(target) and not config.overwrite_state:
        raise InputError.of(
            "save_state", target, "exists", "choose another directory or add --overwrite-state"
        )
    with atomic_directory(target, STATE_FILES, "save_state") as directory:
        yield directory


def save_stream(directory: Path, job: Job, params: Any, history: StreamHistory) -> None:
    """Writes the state after the last chunk."""
    settings, saved = job.settings, job.saved
    earlier = saved.record.frames if saved is not None else ()
    record = StreamRecord(
        model=job.run.model,
        parameters_sha256=fingerprint(params),
        similarity=job.scene.similarity,
        has_scale=job.has_scale,
        resolution=(job.scene.targets.image.shape[2], job.scene.targets.image.shape[3]),
        background=settings.background,
        chunk_views=settings.chunk_views,
        num_chunks=len(history.records) + (saved.record.num_chunks if saved is not None else 0),
        accumulate=settings.accumulate,
        keep_ratio=settings.keep_ratio,
        random_ratio=settings.random_ratio,
        frames=(*earlier, *((job.capture.name, name) for name in job.scene.input_names)),
    )
    write_stream(directory, SavedStream(record=record, scene=history.scene))
