"""What Gaussians add to the files of an evaluation; nothing where a network draws the views."""

import dataclasses
import time
from pathlib import Path
from typing import Any, get_args

from tttlrm_jax.api.reconstruction import Reconstruction
from tttlrm_jax.api.view_synthesis import SynthesisedScene, ViewSynthesisModel
from tttlrm_jax.api.virtual_views import described, number_of
from tttlrm_jax.apps.progress import announced, counted
from tttlrm_jax.apps.reconstruct.job import Job
from tttlrm_jax.config import EvalConfig
from tttlrm_jax.config.evaluation import SaveFormat
from tttlrm_jax.config.surfaces import MeshFormat
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.export.splats.formats import format_of
from tttlrm_jax.export.splats.writable import ExportCount, writable
from tttlrm_jax.mesh.extraction import check_extra

PLY_FILE = "scene.ply"
SCENE_FILES = tuple(f"scene.{each}" for each in get_args(SaveFormat))
MESH_FILES = tuple(f"mesh.{each}" for each in get_args(MeshFormat))


@dataclasses.dataclass(frozen=True)
class Saved:
    """The files of a scene: what was written, and why others were not."""

    files: dict[str, ExportCount]
    refused: dict[str, str]  # a sentence each
    num_written: int
    num_invalid: int

    @property
    def notes(self) -> list[str]:
        """What a format lost, a sentence each."""
        return [
            f"{name}: {count.num_clipped} of {count.num_written} Gaussians have values beyond the "
            "range of the format, which are brought to its end"
            for name, count in self.files.items()
            if count.num_clipped
        ]


def check_writable(config: EvalConfig) -> None:
    """Raises InputError where something that the formats of `save` and `save_mesh` need is not
    there."""
    for each in config.save:
        if (check := format_of(f"scene.{each}").check) is not None:
            check()
    if config.save_mesh is not None:
        check_extra()


def write_gaussians(
    directory: Path, job: Job, made: Reconstruction | SynthesisedScene
) -> Saved | None:
    """scene.FORMAT in each of the formats that are asked for; None without Gaussians.

    A scene beyond a format's range is no file of it: others are written, and the sentence is kept.
    """
    if not isinstance(made, Reconstruction):
        return None
    files, refused = {}, {}
    for name in (f"scene.{each}" for each in dict.fromkeys(job.config.save)):
        with announced(f"writing {name}"):
            try:
                files[name] = made.save(directory / name, min_opacity=job.config.min_opacity)
            except InputError as error:
                refused[name] = f"{name} was not written: {error}."
    count = next(iter(files.values()), None)
    if count is None:
        count = writable(made.gaussians, job.config.min_opacity)[1]
    return Saved(files, refused, count.num_written, count.num_invalid)


def write_surface(
    directory: Path, job: Job, made: Reconstruction | SynthesisedScene
) -> tuple[dict[str, Any], tuple[str, ...], dict[str, str]]:
    """mesh.FORMAT in each of the formats that are asked for, of what all cameras of the capture
    see; returns what metrics.json says of it, notes, and why files were not written.
    """
    assert isinstance(made, Reconstruction)  # `check_has_gaussians`
    names = [f"mesh.{each}" for each in dict.fromkeys(job.config.save_mesh or ())]
    start = time.perf_counter()
    try:
        surface = made.mesh(job.capture, bar=counted)
    except InputError as error:
        return {}, (), {", ".join(names): f"no mesh was written: {error}."}
    for name in names:
        with announced(f"writing {name}"):
            surface.save(directory / name)
    part = {
        "files": names, "vertices": len(surface.vertices), "triangles": len(surface.faces),
        "watertight": surface.is_watertight, "voxel": surface.voxel,
        "seconds": time.perf_counter() - start,
    }  # fmt: skip
    return {"surface": part}, tuple(f"mesh: {note}" for note in surface.notes), {}


def surface_settings(metrics: dict[str, Any]) -> dict[str, str]:
    """The row of the settings on the page that is about the mesh; none without one."""
    if "surface" not in metrics:
        return {}
    made = metrics["surface"]
    closed = "watertight" if made["watertight"] else "open"
    return {
        ", ".join(made["files"]): f"{made['vertices']} vertices, {made['triangles']} triangles, "
        f"{closed}, voxels of {made['voxel']:.4g} units of the capture, in {made['seconds']:.1f} s"
    }


def drawn_by(made: Reconstruction | SynthesisedScene) -> dict[str, Any]:
    """What the page's viewer draws, and how; nothing without Gaussians."""
    if not isinstance(made, Reconstruction):
        return {}
    return {
        "gaussians": made.gaussians, "background": made.background,
        "eps2d": made.renderer.config.eps2d,
    }  # fmt: skip


def scene_part(
    job: Job, made: Reconstruction | SynthesisedScene, saved: Saved | None
) -> dict[str, Any]:
    """How large the scene is, and what was not written of it, for metrics.json."""
    if not isinstance(made, Reconstruction):
        return {"state_numbers": made.num_numbers}
    assert saved is not None
    return {
        "virtual_views": number_of(job.seen.virtual, len(job.scene.input_names)),
        "num_gaussians": saved.num_written,
        "num_gaussians_predicted": int(made.predicted.mean.shape[0]),
        "num_gaussians_invalid": saved.num_invalid,
        **({"not_saved": saved.refused} if saved.refused else {}),
    }


def scene_settings(job: Job, metrics: dict[str, Any]) -> dict[str, str]:
    """Rows of the settings on the page that are about the form of the scene."""
    request, raster = job.request, job.run.raster
    if "num_gaussians" not in metrics:
        assert isinstance(job.model, ViewSynthesisModel)
        return {"the scene": job.model.described(metrics["state_numbers"])}
    kept = (
        f"{request.keep_ratio:g} kept by opacity, {request.random_ratio:g} of the others at random"
    )
    return {
        "Gaussians of": described(request.virtual, job.seen.virtual),
        "drawing": f"alpha at most {raster.max_alpha:g}, from depth {raster.near:g} on",
        "pruning": kept if request.keep_ratio < 1 else "none",
        ", ".join(f"scene.{each}" for each in job.config.save): f"{metrics['num_gaussians']} of "
        f"{metrics['num_gaussians_predicted']} Gaussians: opacity above "
        f"{job.config.min_opacity:.4g}",
    }
