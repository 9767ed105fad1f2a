"""The files of one evaluation: scene.ply, orbit.mp4, comparison.png, report.html, metrics.json.

A stream adds stream.png and growth.mp4; without Gaussians there is no scene.ply. Gaussians and
cameras in files are in the frame and scale of the capture, relative to the offset that metrics.json
states (0 for most captures).
"""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import jax
import numpy as np

from tttlrm_jax.api.models import SceneModel
from tttlrm_jax.api.scenes import PosedScene, Scores
from tttlrm_jax.apps.progress import announced
from tttlrm_jax.apps.reconstruct.camera_files import CAMERAS_FOLDER, write_all_cameras
from tttlrm_jax.apps.reconstruct.devices import mesh_part, mesh_settings
from tttlrm_jax.apps.reconstruct.gaussian_files import (
    MESH_FILES,
    PLY_FILE,
    SCENE_FILES,
    Saved,
    drawn_by,
    scene_part,
    scene_settings,
    surface_settings,
    write_gaussians,
    write_surface,
)
from tttlrm_jax.apps.reconstruct.job import Evaluated, Job
from tttlrm_jax.apps.reconstruct.orbit import ORBIT_SIDE, orbit_frames
from tttlrm_jax.apps.reconstruct.refined_files import (
    CAMERAS_FILE,
    IMPROVEMENT_FILM,
    MEANS,
    refined_notes,
    refined_part,
    refined_settings,
    write_cameras,
    write_improvement,
)
from tttlrm_jax.apps.reconstruct.stream_files import STREAM_FILES, growth_frames, stream_plot
from tttlrm_jax.checkpoints.provenance import provenance_of
from tttlrm_jax.config import RuleConfig
from tttlrm_jax.core.geometry.offsets import moved_poses
from tttlrm_jax.core.pictures import enlargement, png_bytes
from tttlrm_jax.export.video import write_video
from tttlrm_jax.reports.camera_plots import NamedCamera
from tttlrm_jax.reports.comparison import ComparedView, comparison_sheet
from tttlrm_jax.reports.reconstruction import Exhibit, Report, report_html
from tttlrm_jax.ttt.rules import RULES

RESULT_FILES = ("comparison.png", PLY_FILE, "metrics.json")  # of the first pass, at once
OUTPUT_FILES = (*RESULT_FILES, "orbit.mp4", "report.html")
# that an earlier run may have left
ALL_FILES = (
    *OUTPUT_FILES, *STREAM_FILES, IMPROVEMENT_FILM, CAMERAS_FILE, CAMERAS_FOLDER, *SCENE_FILES,
    *MESH_FILES,
)  # fmt: skip
ORBIT_FPS, GROWTH_FPS = 24, 12  # frames per second
SHOWN_TEXT = {
    "chunk": "Gaussians of the newest chunk's views",
    "append": "Gaussians of every chunk as read when it came",
    "all": "Gaussians of all views so far, read again after every chunk",
}


def write_result(directory: Path, job: Job, evaluated: Evaluated) -> dict[str, Any]:
    """Writes `RESULT_FILES` and what else was asked for; returns what is in metrics.json."""
    made = evaluated.reconstruction
    saved = write_gaussians(directory, job, made)
    write_cameras(directory, job, evaluated)
    refused = write_all_cameras(directory, job, evaluated)
    with announced("drawing comparison.png"):
        metrics = _with_refused(collect_metrics(job, evaluated, saved), refused)
        inputs, views = np.asarray(job.scene.inputs.image[0]), compared_views(job.scene, evaluated)
        sheet = comparison_sheet(job.scene.name, _subtitle(metrics), inputs, views)
        (directory / "comparison.png").write_bytes(png_bytes(sheet))
        _write_metrics(directory, metrics)
    return metrics


def _write_metrics(directory: Path, metrics: dict[str, Any]) -> None:
    text = json.dumps(metrics, indent=2, allow_nan=False)
    (directory / "metrics.json").write_text(text + "\n", encoding="utf-8")


def write_mesh(
    directory: Path, job: Job, evaluated: Evaluated, metrics: dict[str, Any]
) -> dict[str, Any]:
    """Writes the mesh of the Gaussians; returns what is in metrics.json then."""
    part, notes, refused = write_surface(directory, job, evaluated.reconstruction)
    metrics = {**metrics, **part, "notes": [*metrics["notes"], *notes]}
    metrics = _with_refused(metrics, refused)
    _write_metrics(directory, metrics)
    return metrics


def _with_refused(metrics: dict[str, Any], refused: dict[str, str]) -> dict[str, Any]:
    """What was not written, and why, beside what else was not."""
    if not refused:
        return metrics
    return {**metrics, "not_saved": metrics.get("not_saved", {}) | refused}


def write_exhibits(
    directory: Path, job: Job, evaluated: Evaluated, metrics: dict[str, Any]
) -> None:
    """Writes what takes longer: films, the plot of a stream, and report.html with all of it."""
    made = evaluated.reconstruction
    with announced(f"rendering {job.config.orbit_frames} frames of orbit.mp4"):
        film = directory / "orbit.mp4"
        frames = orbit_frames(made, job)
        write_video(film, frames, frames_per_second=ORBIT_FPS, min_side=ORBIT_SIDE)
    stream = write_stream_files(directory, job, evaluated)
    improvement = write_improvement(directory, job, evaluated)
    with announced("drawing report.html"):
        seen = provenance_of(job.checkpoint)
        report = Report(
            metrics=metrics,
            input_names=job.scene.input_names,
            inputs=np.asarray(job.scene.inputs.image[0]),
            views=compared_views(job.scene, evaluated),
            cameras=named_cameras(job),
            video=film.read_bytes(),
            **drawn_by(made),
            settings=settings_table(job, metrics),
            caveats=caveats(job, evaluated, metrics),
            provenance=f"The weights were trained on {seen}." if seen else "",
            stream=stream,
            improvement=improvement,
        )
        (directory / "report.html").write_text(report_html(report), encoding="utf-8")


def write_stream_files(directory: Path, job: Job, evaluated: Evaluated) -> Exhibit | None:
    """The plot and the film of a stream; None where there was none."""
    history = evaluated.stream
    if history is None:
        return None
    picture, film = (directory / name for name in STREAM_FILES)
    with announced("drawing stream.png and growth.mp4"):
        chunk, num_targets = job.request.chunk_views, len(job.scene.target_names)
        text = (
            f"{history.stream.views_seen} views in chunks of {chunk}; "
            f"{SHOWN_TEXT[job.request.accumulate]}; {job.run.name}, {jax.devices()[0].device_kind}"
        )
        plot = stream_plot(history, num_targets, f"{job.scene.name}, streamed", text)
        picture.write_bytes(plot.png())
        title = f"{job.scene.name}: plan causal, {chunk} views per chunk"
        write_video(film, growth_frames(history, job, title), frames_per_second=GROWTH_FPS)
    return Exhibit(plot=plot, film=film.read_bytes())


def collect_metrics(job: Job, evaluated: Evaluated, saved: Saved | None) -> dict[str, Any]:
    """The contents of metrics.json: means over target views, then each view."""
    scores = evaluated.ours.scores
    return {
        "scene": job.scene.name,
        "input_views": len(job.scene.input_names),
        "target_views": len(job.scene.target_names),
        "resolution": list(job.scene.resolution),
        "model_resolution": list(job.seen.resolution),
        "plan": job.request.plan,
        "rule": RULES.complete(job.run.model.rule).to_dict(),
        "settings": job.settings,
        **{name: scores.mean(name) for name in (*MEANS, "psnr_foreground")},
        **scene_part(job, evaluated.reconstruction, saved),
        **mesh_part(job, evaluated),
        "seconds": evaluated.seconds,
        "device": jax.devices()[0].device_kind,
        "checkpoint": str(job.checkpoint),
        **{
            "baselines" + suffix: {k: v.scores.mean(name) for k, v in evaluated.baselines.items()}
            for name, suffix in zip(MEANS, ("", "_ssim", "_lpips"), strict=True)
        },
        "capture": str(job.capture.directory.absolute()),
        "background": list(getattr(evaluated.reconstruction, "background", ())),
        "offset": job.offset.tolist(),
        "notes": [*job.notes, *refined_notes(job, evaluated), *(saved.notes if saved else ())],
        "inputs": job.scene.input_names,
        **_stream_part(job, evaluated),
        **refined_part(job, evaluated),
        "targets": [
            {"name": name, **_view_scores(scores, index)}
            for index, name in enumerate(job.scene.target_names)
        ],
    }


def compared_views(scene: PosedScene, evaluated: Evaluated) -> list[ComparedView]:
    """Target, ours (before refinement, too) and the nearest input view, for every target."""
    nearest = evaluated.baselines["nearest_input"]
    scores, before = evaluated.ours.scores, evaluated.unrefined
    return [
        ComparedView(
            name=name,
            target=np.asarray(scene.targets.image[0, index]),
            rendered=evaluated.ours.pictures[index],
            baseline=nearest.pictures[index],
            psnr=float(scores.psnr[index]),
            ssim=float(scores.ssim[index]),
            baseline_psnr=float(nearest.scores.psnr[index]),
            before=None if before is None else before.pictures[index],
            before_psnr=None if before is None else float(before.scores.psnr[index]),
        )
        for index, name in enumerate(scene.target_names)
    ]


def named_cameras(job: Job) -> list[NamedCamera]:
    """All cameras of the capture in its own frame, relative to the offset.

    Used ones have the intrinsics of the pictures.
    """
    poses = moved_poses(job.capture.world_from_camera, job.offset)
    height, width = job.scene.targets.image.shape[2:4]
    used = {}
    for role, frames, views in (
        ("target", job.request.targets, job.scene.targets),
        ("input", job.request.inputs, job.scene.inputs),
    ):
        for frame, lens in zip(frames, np.asarray(views.cameras.intrinsics[0]), strict=True):
            used[int(frame)] = (role, lens)
    return [
        NamedCamera(
            name=frame.name,
            role=used[number][0] if number in used else "other",
            world_from_camera=poses[number],
            intrinsics=used[number][1] if number in used else frame.intrinsics,
            height=height,
            width=width,
        )
        for number, frame in enumerate(job.capture.frames)
    ]


def settings_table(job: Job, metrics: dict[str, Any]) -> dict[str, str]:
    """What a reader needs to repeat the run."""
    run, request, model = job.run, job.request, job.run.model
    seconds = metrics["seconds"]
    return {
        "capture": str(job.config.capture or "the sample in the package"),
        "checkpoint": str(job.config.checkpoint or "the weights in the package"),
        "configuration": f"{run.name} ({model.kind}): {model.num_layers} layers, width "
        f"{model.d_model}, patch {model.patch_size}" + _decoder_settings(job),
        "plan": request.plan
        if request.plan == "full"
        else f"{request.plan}, {request.chunk_views} views per update",
        "update rule": str(RuleConfig.from_dict(metrics["rule"])),
        "views": f"{metrics['input_views']} of {len(job.capture)} frames in, every 8th frame a "
        "target; " + _choice_of_inputs(job),
        **_stream_settings(job),
        **refined_settings(metrics),
        "size": f"{metrics['resolution'][1]}x{metrics['resolution'][0]} pixels",
        "poses": run.data.pose_normalisation
        + (f" over {run.data.normalise_over}" if request.similarity is None else ", as streamed"),
        "numbers": f"products in {model.compute_dtype}",
        **scene_settings(job, metrics),
        **surface_settings(metrics),
        **mesh_settings(metrics),
        "compiling": f"{seconds['reconstruct_compile']:.1f} s for the model, "
        f"{seconds['render_compile']:.1f} s for the renderer, not counted above",
        "device": f"{metrics['device']}, JAX {jax.__version__}",
        "perceptual metric": job.lpips_note,
    }


def _decoder_settings(job: Job) -> str:
    model, triplane = job.run.model, job.run.model.triplane
    if isinstance(job.model, SceneModel):
        return f", spherical harmonics of degree {model.sh_degree}"
    if model.kind == "lvsm":
        return ""
    if model.decoder != "triplane":
        return f", decoder {model.decoder}"
    return (
        f", three planes of {triplane.side}x{triplane.side} cells of {triplane.channels} channels, "
        f"{triplane.samples} + {triplane.importance_samples} samples a ray"
    )


def caveats(job: Job, evaluated: Evaluated, metrics: dict[str, Any]) -> list[str]:
    """What a number on the page does not say by itself."""
    texts = []
    nearest = metrics["baselines"]["nearest_input"]
    if metrics["psnr"] < nearest:
        texts.append(
            f"On this capture the model is worse than showing the nearest input view, by "
            f"{nearest - metrics['psnr']:.1f} dB. Take the reconstruction for what it is."
        )
    hidden = job.scene.background_share
    if hidden and metrics["psnr_foreground"] is not None:
        texts.append(
            f"{100 * hidden:.0f} % of the target pixels are transparent or masked: plain "
            "background, which every method gets right. Over the others PSNR is "
            f"{metrics['psnr_foreground']:.2f} dB."
        )
    worst = int(np.argmin(evaluated.ours.scores.psnr))
    texts.append(
        f"Means hide the worst view: {job.scene.target_names[worst]} has "
        f"{evaluated.ours.scores.psnr[worst]:.2f} dB."
    )
    if job.request.plan == "causal":
        texts += _stream_caveats(job)
    height, width = metrics["resolution"]
    factor = enlargement(height, width, ORBIT_SIDE)
    if factor > 1 and "num_gaussians" in metrics:
        texts.append(
            f"Film and viewer show more pixels than the model was asked for ({factor}x in the "
            "film), with the renderer's blur grown to match."
        )
    if metrics.get("num_gaussians_invalid"):
        texts.append(
            f"{metrics['num_gaussians_invalid']} Gaussians had values that are not finite and "
            "were left out of the files of the scene."
        )
    return [*texts, *(f"{note[:1].upper()}{note[1:]}." for note in metrics["notes"])]


def _stream_caveats(job: Job) -> list[str]:
    texts = []
    if job.run.train.plan != "causal":
        texts.append(
            f"The weights were trained with the {job.run.train.plan} plan, not on streams: later "
            "chunks need not improve what the first one gave."
        )
    if job.config.post_optimize or job.config.seconds:
        texts.append(
            "Refinement on the inputs came after the last chunk: the curve over chunks, the "
            "growing film and a saved state are without it"
            + ("; it knew the new views only." if job.saved is not None else ".")
        )
    if job.saved is not None:
        texts.append(
            f"The stream went on from a state that had seen {len(job.saved.record.frames)} views; "
            "the baselines know the new views only."
        )
    if not job.request.has_scale:
        texts.append(
            "The cameras of the first chunk stand in one place and give no scale: the scene was "
            "taken to lie at the distance that --first-distance says, else 1 unit of the capture."
        )
    return texts


def _choice_of_inputs(job: Job) -> str:
    if job.config.frames is not None:
        return f"inputs as asked for: {job.config.frames}"
    if job.saved is not None:
        return "inputs by k-means over camera positions and directions of frames not seen before"
    return "inputs by k-means over camera positions and directions, or as the file lists"


def _stream_settings(job: Job) -> dict[str, str]:
    if job.request.plan != "causal" or not isinstance(job.model, SceneModel):
        return {}
    similarity, shown = job.scene.similarity, SHOWN_TEXT[job.request.accumulate]
    rows = {
        "shown after a chunk": f"{shown} (--accumulate {job.request.accumulate})",
        "frame of coordinates": "fixed by the views of the first chunk; one unit inside is "
        f"{1 / similarity.scale:.4g} units of the capture",
    }
    if job.saved is not None:
        rows["went on from"] = str(job.config.load_state)
    if job.config.save_state is not None:
        rows["state saved to"] = str(job.config.save_state)
    return rows


def _stream_part(job: Job, evaluated: Evaluated) -> dict[str, Any]:
    """What a stream adds to metrics.json."""
    history = evaluated.stream
    if history is None:
        return {}
    return {
        "chunk_views": job.request.chunk_views,
        "accumulate": job.request.accumulate,
        "views_seen": history.stream.views_seen,
        "stream": history.chunks,
    }


def _subtitle(metrics: dict[str, Any]) -> str:
    gain = metrics["psnr"] - metrics["baselines"]["nearest_input"]
    return (
        f"PSNR {metrics['psnr']:.2f} dB, SSIM {metrics['ssim']:.3f} over "
        f"{metrics['target_views']} target views; {gain:+.2f} dB against the nearest input view"
    )


def _view_scores(scores: Scores, index: int) -> dict[str, float | None]:
    return {
        field.name: None if (values := getattr(scores, field.name)) is None
        or math.isnan(values[index]) else float(values[index])
        for field in dataclasses.fields(scores)
    }  # fmt: skip
