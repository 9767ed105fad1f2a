"""The numbers of an evaluation: ours and the baselines' on the held-out views.

With the causal plan a capture is streamed chunk by chunk, or a saved stream continued.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from tttlrm_jax.api.models import SceneModel
from tttlrm_jax.api.reconstruction import Reconstruction
from tttlrm_jax.api.scenes import baseline_pictures, score
from tttlrm_jax.api.streams import SceneStream, chunks_of
from tttlrm_jax.api.view_synthesis import SynthesisedScene
from tttlrm_jax.apps.progress import announced
from tttlrm_jax.apps.reconstruct.job import Answer, Evaluated, Job, StreamHistory
from tttlrm_jax.apps.reconstruct.orbit import orbit_cameras
from tttlrm_jax.apps.reconstruct.watch import watched
from tttlrm_jax.core.pictures import to_uint8
from tttlrm_jax.core.types import Cameras, Gaussians
from tttlrm_jax.models.live_stream import LiveStream, StreamScene, filled_up
from tttlrm_jax.rasterize import Renderer
from tttlrm_jax.reports.growth import GrowthMoment, reduced

MIN_FRAMES, MAX_FRAMES = 4, 12  # of growth.mp4 per chunk
LAST_CHUNK = 3  # times as long as the others


def measure(job: Job) -> Evaluated:
    """Reconstructs, renders and scores; nothing is refined yet."""
    if job.request.plan == "causal" and isinstance(job.model, SceneModel):
        return measure_stream(job)
    return measure_at_once(job)


def measure_at_once(job: Job) -> Evaluated:
    """All inputs in one call; an untrained model goes through the same program."""
    with announced("compiling the model"):
        job.model.program(job.seen, job.request)
    with announced("reconstructing and rendering the targets"):
        made = _shown(job.model.reconstruct_scene(job.seen, job.request), job)
        if job.page is not None:
            job.page.show(made)
        ours = job.answer(made.target_pictures())
    seconds = {"reconstruct": made.seconds, "reconstruct_compile": made.compile_seconds}
    seconds |= job.render_seconds(made.renderer)
    baselines = plain_baselines(job)
    if job.config.untrained_baseline:
        with announced("untrained baseline"):
            untrained = job.model.untrained(job.request.seed)
            other = _shown(untrained.reconstruct_scene(job.seen, job.request), job)
            baselines |= {"untrained": job.answer(other.target_pictures())}
    return Evaluated(reconstruction=made, ours=ours, baselines=baselines, seconds=seconds)


def _shown(made: Reconstruction | SynthesisedScene, job: Job) -> Reconstruction | SynthesisedScene:
    """The reconstruction beside the views that it is shown and scored against."""
    return dataclasses.replace(made, posed=job.scene)


def plain_baselines(job: Job) -> dict[str, Answer]:
    """Those that need no model."""
    return {name: job.answer(made) for name, made in baseline_pictures(job.scene).items()}


def post_optimize(evaluated: Evaluated, job: Job) -> Evaluated:
    """The evaluation with refined Gaussians and their scores.

    Targets are not looked at: what the refined Gaussians gain on them is theirs.
    """
    steps, seconds = job.config.post_optimize, job.config.seconds
    made = evaluated.reconstruction
    assert isinstance(made, Reconstruction)
    views = f"{job.scene.inputs.image.shape[1]} input views"
    if seconds is None:
        with announced(f"refining on {views}, {steps} steps"):
            refined, record = made.refine(steps)
    else:
        pixels = "x".join(map(str, job.scene.resolution[::-1]))
        what = f"improving on {views} of {pixels} pixels for {seconds:g} s (Ctrl-C ends it earlier)"
        with announced(what), watched(seconds, job.output) as tell:
            told = tell if job.page is None else job.page.beside(tell, made)
            refined, record = made.refine(
                seconds=seconds, on_moment=told, **job.config.of_improving()
            )
    if job.page is not None:
        job.page.show(refined, "refined")
    with announced("rendering the targets again"):
        ours = job.answer(refined.target_pictures())
    more = {"post_optimize": refined.seconds, "post_optimize_compile": refined.compile_seconds}
    return dataclasses.replace(
        evaluated, reconstruction=refined, ours=ours, seconds=evaluated.seconds | more,
        unrefined=evaluated.ours, refinement=record,
    )  # fmt: skip


def measure_stream(job: Job) -> Evaluated:
    """Streams the inputs; renders and scores the same targets after every chunk."""
    stream = SceneStream.of(job.model, job.request, job.saved)
    with announced("compiling the stream"):
        live = stream.live(*job.request.resolution)
    count = live.most_gaussians(stream.begun(live), len(job.scene.input_names))
    history = _history(stream, live, job, count)
    with announced("scoring"):
        made = _stream_result(job, history, live)
        ours = job.answer(_shown_pictures(made, count))
    seconds = job.render_seconds(made.renderer)
    baselines = plain_baselines(job)
    if job.config.untrained_baseline:
        with announced("untrained baseline"):
            untrained = SceneStream.of(job.model.untrained(job.request.seed), job.request)
            for views in chunks_of(job.seen.inputs, job.request.chunk_views):
                untrained.advance(views)
            other = dataclasses.replace(made, predicted=untrained.scene.gaussians)
            baselines |= {"untrained": job.answer(_shown_pictures(other, count))}
    compiling = {"reconstruct_compile": live.compile_seconds}
    return Evaluated(
        reconstruction=made,
        ours=ours,
        baselines=baselines,
        seconds={"reconstruct": made.seconds, **compiling, **seconds},
        stream=history,
    )


def _stream_result(job: Job, history: StreamHistory, live: LiveStream) -> Reconstruction:
    """What the last chunk left, beside the views that it is shown and scored against."""
    return Reconstruction(
        posed=job.scene, background=job.request.background, made_at=job.seen.resolution,
        predicted=jax.tree.map(jnp.asarray, history.stream.scene.gaussians),
        raster=job.run.raster, renderers=job.model.renderers,
        seconds=sum(chunk["seconds"] for chunk in history.chunks),
        compile_seconds=live.compile_seconds,
    )  # fmt: skip


def _history(stream: SceneStream, live: LiveStream, job: Job, count: int) -> StreamHistory:
    """Chunk after chunk: what was measured, and pictures for the film."""
    history = StreamHistory(stream=stream, chunks=[], growth=[])
    chunks = chunks_of(job.seen.inputs, job.request.chunk_views)
    film = _Film(job, len(chunks), count)
    names = job.scene.input_names
    for index, views in enumerate(chunks):
        with announced(f"chunk {index + 1} of {len(chunks)}"):
            newest, names = names[: views.image.shape[1]], names[views.image.shape[1] :]
            cost = stream.advance(views, [(job.capture.name, name) for name in newest])
            scene = stream.scene
            if job.page is not None:
                job.page.add_chunk(scene, count)
            pictures, sizes = _pictures(job, scene, count), scene.sizes()
            scores = score(pictures, job.seen)
            psnr = float(scores.psnr.mean())
            history.chunks.append({
                "views_seen": scene.num_views,
                "views": newest,
                "psnr": psnr,
                "ssim": float(scores.ssim.mean()),
                "seconds": cost.step + cost.reread,
                "seconds_step": cost.step,
                "seconds_reread": cost.reread,
                "num_gaussians": len(scene.gaussians.mean),
                "bytes_state": sizes["state"],
                "bytes_step": live.step_bytes,
                "bytes_gaussians": sizes["gaussians"],
                "bytes_views": sizes["views"],
            })  # fmt: skip
            moment = GrowthMoment(
                seen=scene.num_views, newest=len(newest), psnr=psnr,
                rendered=to_uint8(pictures[job.film_target]),
            )  # fmt: skip
            history.growth.append((moment, film(scene, index)))
    return history


class _Film:
    """Pictures of an orbit that goes on from chunk to chunk."""

    def __init__(self, job: Job, num_chunks: int, count: int):
        self._per_chunk = _frames_per_chunk(job.config.orbit_frames, num_chunks)
        frames = self._per_chunk * (num_chunks + LAST_CHUNK - 1)
        self._cameras, self._render = orbit_cameras(
            job, job.seen, job.request.background, job.run.raster, frames
        )
        self._num_chunks, self._count = num_chunks, count

    def __call__(self, scene: StreamScene, index: int) -> np.ndarray:
        """Frames uint8 [frame, height, width, 3] after this chunk."""
        portions = LAST_CHUNK if index == self._num_chunks - 1 else 1
        pictures = [
            _drawn(self._render, scene.gaussians, self._count, self._portion(portion))
            for portion in range(index, index + portions)
        ]
        return np.stack([reduced(to_uint8(picture)) for part in pictures for picture in part])

    def _portion(self, index: int) -> Cameras:
        return self._cameras[index * self._per_chunk : (index + 1) * self._per_chunk]


def _pictures(job: Job, scene: StreamScene, count: int) -> np.ndarray:
    """Of the targets, by one program for scenes of any size up to `count` Gaussians."""
    render = job.model.renderers(job.request.background, job.run.raster)
    return _drawn(render, scene.gaussians, count, job.seen.target_cameras)


def _shown_pictures(made: Reconstruction, count: int) -> np.ndarray:
    """The same as they are shown, by the same program where these have no more pixels."""
    return _drawn(made.renderer, made.predicted, count, made.posed.target_cameras)


def _drawn(render: Renderer, gaussians: Gaussians, count: int, cameras: Cameras) -> np.ndarray:
    """Pictures of a scene that will have `count` Gaussians, by the program that draws it then."""
    growth = count / max(len(gaussians.mean), 1)
    return np.asarray(render(filled_up(gaussians, count), cameras, growth=growth).rgb)


def _frames_per_chunk(orbit_frames: int, num_chunks: int) -> int:
    """Of the growing film, which has about as many frames as the orbit and half its speed."""
    wanted = -(-orbit_frames // num_chunks)
    return min(max(wanted, min(MIN_FRAMES, orbit_frames)), MAX_FRAMES)
