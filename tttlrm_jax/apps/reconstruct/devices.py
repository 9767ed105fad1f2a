"""One scene over several devices and processes: who writes, and what they say of it."""

import contextlib
import dataclasses
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import jax

from tttlrm_jax.api.mesh_scenes import MeshSceneModel
from tttlrm_jax.api.reconstruction import Reconstruction
from tttlrm_jax.apps.reconstruct.job import Evaluated, Job
from tttlrm_jax.config import EvalConfig, MeshConfig
from tttlrm_jax.core.files.output_directory import atomic_directory
from tttlrm_jax.parallel.processes import begun_together, init_distributed, is_first_process


def join_processes(config: EvalConfig) -> None:
    """Meets the other processes of a job where a mesh is asked for."""
    mesh = config.mesh
    if mesh != MeshConfig():
        init_distributed(
            mesh.coordinator, mesh.num_processes, mesh.process_id, timeout=mesh.timeout
        )


@contextlib.contextmanager
def written_once(config: EvalConfig) -> Iterator[EvalConfig]:
    """The first process writes what is asked for; others do the same work for nothing."""
    if is_first_process():
        yield config
        return
    with tempfile.TemporaryDirectory() as directory:
        yield dataclasses.replace(config, output=str(Path(directory) / "output"))


@contextlib.contextmanager
def output_of_all(output: Path, own_files: Collection[str]) -> Iterator[Path]:
    """`atomic_directory` in every process, or in none: InputError in all where one has none."""
    with contextlib.ExitStack() as stack:
        with begun_together():
            directory = stack.enter_context(atomic_directory(output, own_files))
        yield directory


def mesh_part(job: Job, evaluated: Evaluated) -> dict[str, Any]:
    """What several devices add to metrics.json: sizes, and bytes that programs plan on each."""
    model, made = job.model, evaluated.reconstruction
    if not isinstance(model, MeshSceneModel) or not isinstance(made, Reconstruction):
        return {}
    render = made.renderer.bytes_per_device
    return {
        "mesh": {
            **model.mesh.shape,
            "devices": model.mesh.size,
            "processes": jax.process_count(),
            "bytes_per_device": {"reconstruct": model.bytes_per_device, "render": render},
        }
    }


def mesh_settings(metrics: dict[str, Any]) -> dict[str, str]:
    """The row of the settings on the page; none on one device."""
    if "mesh" not in metrics:
        return {}
    mesh = metrics["mesh"]
    peaks = (mesh["bytes_per_device"][name].get("peak", 0) for name in ("reconstruct", "render"))
    reconstruct, render = (f"{peak / 2**20:.1f} MiB" for peak in peaks)
    return {
        "devices": f"{mesh['devices']} (seq {mesh['seq']}, fsdp {mesh['fsdp']}) of "
        f"{mesh['processes']} processes; planned on each at most {reconstruct} to reconstruct, "
        f"{render} to render"
    }
