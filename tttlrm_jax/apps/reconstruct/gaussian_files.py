"""What Gaussians add to the files of an evaluation; nothing where a network draws the views."""

from pathlib import Path
from typing import Any

from tttlrm_jax.api.reconstruction import Reconstruction
from tttlrm_jax.api.view_synthesis import SynthesisedScene
from tttlrm_jax.api.virtual_views import described, number_of
from tttlrm_jax.apps.progress import announced
from tttlrm_jax.apps.reconstruct.job import Job
from tttlrm_jax.export.splats.writable import ExportCount

PLY_FILE = "scene.ply"
SPLAT_FILE = "scene.splat"  # where it is asked for


def write_gaussians(
    directory: Path, job: Job, made: Reconstruction | SynthesisedScene
) -> ExportCount | None:
    """scene.ply and, where it is asked for, scene.splat; None without Gaussians."""
    if not isinstance(made, Reconstruction):
        return None
    with announced(f"writing {PLY_FILE}"):
        count = made.save(directory / PLY_FILE, min_opacity=job.config.min_opacity)
        if job.config.splat:
            made.save(directory / SPLAT_FILE, min_opacity=job.config.min_opacity)
    return count


def drawn_by(made: Reconstruction | SynthesisedScene) -> dict[str, Any]:
    """What the page's viewer draws, and how; nothing without Gaussians."""
    if not isinstance(made, Reconstruction):
        return {}
    return {
        "gaussians": made.gaussians, "background": made.background,
        "eps2d": made.renderer.config.eps2d,
    }  # fmt: skip


def scene_part(
    job: Job, made: Reconstruction | SynthesisedScene, count: ExportCount | None
) -> dict[str, int]:
    """How large the scene is, for metrics.json."""
    if not isinstance(made, Reconstruction):
        return {"state_numbers": made.num_numbers}
    assert count is not None
    return {
        "virtual_views": number_of(job.seen.virtual, len(job.scene.input_names)),
        "num_gaussians": count.num_written,
        "num_gaussians_predicted": int(made.predicted.mean.shape[0]),
        "num_gaussians_invalid": count.num_invalid,
    }


def scene_settings(job: Job, metrics: dict[str, Any]) -> dict[str, str]:
    """Rows of the settings on the page that are about the form of the scene."""
    request, raster = job.request, job.run.raster
    if "num_gaussians" not in metrics:
        return {
            "the scene": f"{metrics['state_numbers']} numbers of fast weights, whatever the number "
            "of views; the network draws every picture from them, without Gaussians"
        }
    kept = (
        f"{request.keep_ratio:g} kept by opacity, {request.random_ratio:g} of the others at random"
    )
    return {
        "Gaussians of": described(request.virtual, job.seen.virtual),
        "drawing": f"alpha at most {raster.max_alpha:g}, from depth {raster.near:g} on",
        "pruning": kept if request.keep_ratio < 1 else "none",
        PLY_FILE: f"{metrics['num_gaussians']} of {metrics['num_gaussians_predicted']} "
        f"Gaussians: opacity above {job.config.min_opacity:.4g}",
    }
