"""The files of one evaluation: scene.ply, orbit.mp4, comparison.png, report.html, metrics.json.

Gaussians and cameras in files are in the frame and scale of the capture.
"""

import dataclasses
import json
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tttlrm_jax.config import EvalConfig, RunConfig
from tttlrm_jax.data import Capture
from tttlrm_jax.evaluation.scene import Evaluated, PosedScene, Scores, Settings, render_frames
from tttlrm_jax.export import (
    ComparedView,
    ExportCount,
    NamedCamera,
    Report,
    write_comparison,
    write_ply,
    write_report,
    write_video,
)
from tttlrm_jax.geometry.paths import orbit_path
from tttlrm_jax.geometry.similarity import transform_gaussians
from tttlrm_jax.types import Cameras, Gaussians

OUTPUT_FILES = ("scene.ply", "orbit.mp4", "comparison.png", "report.html", "metrics.json")
ORBIT_SIDE = 256  # pixels the film's longer side shall at least have
ORBIT_CHUNK = 12  # frames rendered at a time
Step = Callable[[str], AbstractContextManager[None]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """What was evaluated, for the records."""

    config: EvalConfig
    run: RunConfig  # of the checkpoint
    settings: Settings
    capture: Capture
    scene: PosedScene
    checkpoint: Path
    frames: tuple[np.ndarray, np.ndarray]  # numbers of input and target frames
    lpips_note: str


def write_files(directory: Path, job: Job, evaluated: Evaluated, step: Step) -> dict[str, Any]:
    """Writes every file of `OUTPUT_FILES` and returns what is in metrics.json."""
    gaussians = transform_gaussians(evaluated.gaussians, job.scene.similarity.inverse())
    with step("writing scene.ply"):
        count = write_ply(directory / "scene.ply", gaussians, min_opacity=job.config.min_opacity)
    metrics = collect_metrics(job, evaluated, count)
    with step(f"rendering {job.config.orbit_frames} frames of orbit.mp4"):
        film = directory / "orbit.mp4"
        write_video(film, orbit_frames(evaluated.gaussians, job), min_side=ORBIT_SIDE)
    with step("drawing comparison.png and report.html"):
        views = compared_views(job.scene, evaluated)
        inputs = np.asarray(job.scene.inputs.image[0])
        subtitle = _subtitle(metrics)
        write_comparison(directory / "comparison.png", job.scene.name, subtitle, inputs, views)
        report = Report(
            metrics=metrics,
            input_names=job.scene.input_names,
            inputs=inputs,
            views=views,
            cameras=named_cameras(job),
            gaussians=gaussians,
            video=film.read_bytes(),
            background=job.settings.background,
            eps2d=job.run.raster.eps2d,
            settings=settings_table(job, metrics),
            caveats=caveats(job, evaluated, metrics),
        )
        write_report(directory / "report.html", report)
    text = json.dumps(metrics, indent=2, allow_nan=False)
    (directory / "metrics.json").write_text(text + "\n", encoding="utf-8")
    return metrics


def collect_metrics(job: Job, evaluated: Evaluated, count: ExportCount) -> dict[str, Any]:
    """The contents of metrics.json: means over target views, then each view."""
    scores = evaluated.ours.scores
    return {
        "scene": job.scene.name,
        "input_views": len(job.scene.input_names),
        "target_views": len(job.scene.target_names),
        "resolution": list(job.scene.targets.image.shape[2:4]),
        "plan": job.settings.plan,
        "psnr": _mean(scores.psnr),
        "ssim": _mean(scores.ssim),
        "lpips": _mean(scores.lpips),
        "psnr_foreground": _mean(scores.psnr_foreground),
        "num_gaussians": count.num_written,
        "num_gaussians_predicted": int(evaluated.gaussians.mean.shape[0]),
        "num_gaussians_invalid": count.num_invalid,
        "seconds": evaluated.seconds,
        "device": jax.devices()[0].device_kind,
        "checkpoint": str(job.checkpoint),
        "baselines": {k: _mean(v.scores.psnr) for k, v in evaluated.baselines.items()},
        "baselines_ssim": {k: _mean(v.scores.ssim) for k, v in evaluated.baselines.items()},
        "baselines_lpips": {k: _mean(v.scores.lpips) for k, v in evaluated.baselines.items()},
        "inputs": job.scene.input_names,
        "targets": [
            {"name": name, **_view_scores(scores, index)}
            for index, name in enumerate(job.scene.target_names)
        ],
    }


def orbit_frames(gaussians: Gaussians, job: Job) -> Iterator[np.ndarray]:
    """Pictures of a path around what the input cameras look at, in the normalised frame.

    Small pictures are rendered larger by a whole factor, with the screen-space blur grown
    likewise: the same Gaussians with the same softness, in more pixels.
    """
    inputs = job.scene.inputs.cameras
    height, width = inputs.height, inputs.width
    factor = orbit_factor(height, width)
    poses = np.asarray(inputs.world_from_camera[0], np.float64)
    path = jnp.asarray(orbit_path(poses, job.config.orbit_frames), jnp.float32)
    lens = jnp.median(inputs.intrinsics[0], axis=0) * factor
    raster = dataclasses.replace(job.run.raster, eps2d=job.run.raster.eps2d * factor**2)
    lenses = jnp.tile(lens, (len(path), 1))
    cameras = Cameras(path, lenses, height * factor, width * factor)
    return render_frames(gaussians, cameras, job.settings.background, raster, ORBIT_CHUNK)


def orbit_factor(height: int, width: int) -> int:
    """By how much film frames are larger than the views."""
    return max(1, math.ceil(ORBIT_SIDE / max(height, width)))


def compared_views(scene: PosedScene, evaluated: Evaluated) -> list[ComparedView]:
    """Target, ours and the nearest input view, for every target."""
    nearest = evaluated.baselines["nearest_input"]
    scores = evaluated.ours.scores
    return [
        ComparedView(
            name=name,
            target=np.asarray(scene.targets.image[0, index]),
            rendered=evaluated.ours.pictures[index],
            baseline=nearest.pictures[index],
            psnr=float(scores.psnr[index]),
            ssim=float(scores.ssim[index]),
            baseline_psnr=float(nearest.scores.psnr[index]),
        )
        for index, name in enumerate(scene.target_names)
    ]


def named_cameras(job: Job) -> list[NamedCamera]:
    """All cameras of the capture in its own frame; used ones with intrinsics of the pictures."""
    height, width = job.scene.targets.image.shape[2:4]
    used = {}
    for role, frames, views in (
        ("target", job.frames[1], job.scene.targets),
        ("input", job.frames[0], job.scene.inputs),
    ):
        for frame, lens in zip(frames, np.asarray(views.cameras.intrinsics[0]), strict=True):
            used[int(frame)] = (role, lens)
    return [
        NamedCamera(
            name=frame.name,
            role=used[number][0] if number in used else "other",
            world_from_camera=frame.world_from_camera,
            intrinsics=used[number][1] if number in used else frame.intrinsics,
            height=height,
            width=width,
        )
        for number, frame in enumerate(job.capture.frames)
    ]


def settings_table(job: Job, metrics: dict[str, Any]) -> dict[str, str]:
    """What a reader needs to repeat the run."""
    run, settings, model = job.run, job.settings, job.run.model
    seconds = metrics["seconds"]
    return {
        "capture": str(job.config.capture or "the sample in the package"),
        "checkpoint": str(job.config.checkpoint or "the weights in the package"),
        "configuration": f"{run.name}: {model.num_layers} layers, width {model.d_model}, patch "
        f"{model.patch_size}, spherical harmonics of degree {model.sh_degree}",
        "plan": f"{settings.plan}, {settings.chunk_views} views per update"
        if settings.plan == "sequential"
        else settings.plan,
        "views": f"{metrics['input_views']} of {len(job.capture)} frames in, every 8th frame a "
        "target; inputs by k-means over camera positions and directions, or as the file lists",
        "size": f"{metrics['resolution'][1]}x{metrics['resolution'][0]} pixels",
        "pruning": f"{settings.keep_ratio:g} kept by opacity, {settings.random_ratio:g} of the "
        "others at random"
        if settings.keep_ratio < 1
        else "none",
        "scene.ply": f"{metrics['num_gaussians']} of {metrics['num_gaussians_predicted']} "
        f"Gaussians: opacity above {job.config.min_opacity:.4g}",
        "compiling": f"{seconds['reconstruct_compile']:.1f} s for the model, "
        f"{seconds['render_compile']:.1f} s for the renderer, not counted above",
        "device": f"{metrics['device']}, JAX {jax.__version__}",
        "perceptual metric": job.lpips_note,
    }


def caveats(job: Job, evaluated: Evaluated, metrics: dict[str, Any]) -> list[str]:
    """What a number on the page does not say by itself."""
    trained, texts = job.run.data, []
    nearest = metrics["baselines"]["nearest_input"]
    if metrics["psnr"] < nearest:
        texts.append(
            f"On this capture the model is worse than showing the nearest input view, by "
            f"{nearest - metrics['psnr']:.1f} dB. Take the reconstruction for what it is."
        )
    synthetic = trained.synthetic
    if job.config.capture is not None and trained.source == "synthetic":
        texts.append(
            "The weights have seen procedural objects only, at "
            f"{synthetic.width}x{synthetic.height} pixels; photographs and large scenes lie "
            "outside of what they know."
        )
    mask = job.scene.target_mask
    if mask is not None and metrics["psnr_foreground"] is not None:
        texts.append(
            f"{100 * (1 - float(mask.mean())):.0f} % of the target pixels are plain background, "
            f"which every method gets right. Inside the object PSNR is "
            f"{metrics['psnr_foreground']:.2f} dB."
        )
    worst = int(np.argmin(evaluated.ours.scores.psnr))
    texts.append(
        f"Means hide the worst view: {job.scene.target_names[worst]} has "
        f"{evaluated.ours.scores.psnr[worst]:.2f} dB."
    )
    factor = orbit_factor(*metrics["resolution"])
    if factor > 1:
        texts.append(
            f"Film and viewer show more pixels than the model was asked for ({factor}x in the "
            "film), with the renderer's blur grown to match."
        )
    if metrics["num_gaussians_invalid"]:
        texts.append(
            f"{metrics['num_gaussians_invalid']} Gaussians had values that are not finite and "
            "were left out of scene.ply."
        )
    return texts


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


def _mean(values: np.ndarray | None) -> float | None:
    """Mean of the numbers there are; None if there are none."""
    if values is None or np.isnan(values).all():
        return None
    return float(np.nanmean(values))
