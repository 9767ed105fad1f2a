"""`python -m tttlrm_jax.mesh SOURCE --output mesh.ply`: a scene to triangles.

SOURCE is a file of Gaussians, or a directory that `eval.py` wrote: `scene.ply` there, seen by the
cameras of its run, or the depth maps of TTT3R.
"""

import dataclasses
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from tttlrm_jax.api.reconstruction import moved_cameras
from tttlrm_jax.apps.interruptions import interruptible
from tttlrm_jax.apps.progress import counted
from tttlrm_jax.apps.reconstruct.gaussian_files import PLY_FILE
from tttlrm_jax.apps.render.scene_files import file_in, open_scene
from tttlrm_jax.captures.camera_files import Frame
from tttlrm_jax.captures.capture import cameras_by_size, find_camera_file, read_cameras
from tttlrm_jax.captures.other_views import likely_size
from tttlrm_jax.config.command_line import EXIT_INTERRUPTED, run_command
from tttlrm_jax.config.surfaces import SurfaceConfig
from tttlrm_jax.config.validation import PathText
from tttlrm_jax.core.errors import InputError, one_line
from tttlrm_jax.core.files.output_directory import creation_errors
from tttlrm_jax.core.files.packaged_files import capture_path
from tttlrm_jax.core.geometry.offsets import offset_text
from tttlrm_jax.core.program_cache import keep_programs
from tttlrm_jax.core.types import Cameras
from tttlrm_jax.mesh.colouring import colours_from_points
from tttlrm_jax.mesh.extraction import check_extra
from tttlrm_jax.mesh.pipeline import mesh_of_gaussians, mesh_of_views
from tttlrm_jax.mesh.sequence_output import is_sequence_output, read_sequence_output
from tttlrm_jax.mesh.surface import SurfaceMesh, checked_path

SPHERE = (
    "cameras: not known, so depth is drawn from a sphere around the scene, which suits things and "
    "not rooms; --cameras names a capture or camera file"
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SurfaceCommand(SurfaceConfig):
    """A scene to a triangle mesh."""

    # Gaussians (.ply and other splat files), or a directory that eval.py wrote (TTT3R's, too)
    source: tyro.conf.Positional[str]
    output: PathText = "mesh.ply"  # .ply, .obj or .glb
    # capture or camera file in the scene's frame, images need not exist; None: those of the
    # directory's run where they are known, else cameras on a sphere around the scene
    cameras: PathText | None = None
    compile_cache: bool = True  # keep compiled programs in the user's cache directory


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit code (0 done, 2 bad input, 130 interrupted)."""
    try:
        with interruptible():
            return run_command(SurfaceCommand, run, "python -m tttlrm_jax.mesh", arguments)
    except KeyboardInterrupt:
        print("\ninterrupted; nothing was written", file=sys.stderr)
        return EXIT_INTERRUPTED


def run(command: SurfaceCommand) -> Path:
    """Writes the mesh of a scene; returns its path. Raises InputError for what cannot be used."""
    start, output = time.perf_counter(), checked_path(command.output)
    check_extra(simplifying=command.faces is not None)
    source = Path(command.source)
    if not source.exists():
        raise InputError.of("source", source, "does not exist", "name a file or a directory")
    if output.is_dir():
        raise InputError.of("output", output, "is a directory", "give another name of a mesh")
    with creation_errors(output):
        output.parent.mkdir(parents=True, exist_ok=True)
    if command.compile_cache:
        keep_programs()
    mesh = (_of_sequence if is_sequence_output(source) else _of_gaussians)(source, command)
    with creation_errors(output):
        mesh.save(output)
    for note in mesh.notes:
        print(f"note: {note}")
    print(f"{output}: {summary(mesh)}, in {time.perf_counter() - start:.1f} s")
    return output


def summary(mesh: SurfaceMesh) -> str:
    closed = "watertight" if mesh.is_watertight else "open"
    return (
        f"{len(mesh.vertices)} vertices, {len(mesh.faces)} triangles, {closed}, voxels of "
        f"{mesh.voxel:.4g} units of the scene"
    )


def _of_sequence(source: Path, command: SurfaceCommand) -> SurfaceMesh:
    """From TTT3R's depth, with the colours of its points."""
    if command.cameras is not None:
        raise InputError.of(
            "cameras", command.cameras, "is not used: TTT3R's depth has cameras of its own",
            "leave it out",
        )  # fmt: skip
    found = read_sequence_output(source, command.views)
    mesh = mesh_of_views(found.views, command, bar=counted)
    if found.points is not None and found.colours is not None:
        colours = colours_from_points(mesh.vertices, found.points, found.colours)
        mesh = dataclasses.replace(mesh, colours=colours)
    return dataclasses.replace(mesh, notes=(*found.notes, *mesh.notes))


def _of_gaussians(source: Path, command: SurfaceCommand) -> SurfaceMesh:
    """From a file of Gaussians, or from that of an evaluation and the cameras of its capture."""
    directory = source if source.is_dir() else None
    if directory is not None and file_in(directory) is None:
        raise InputError.of(
            "source", directory, f"holds neither {PLY_FILE} nor depth maps of TTT3R",
            "name a file of Gaussians, or a directory that eval.py wrote",
        )  # fmt: skip
    record = {} if directory is None else _record(directory)
    scene = open_scene(source)
    cameras, notes = _cameras(directory, record, command, scene.offset)
    made_at = _made_at(record)
    mesh = mesh_of_gaussians(scene.gaussians, cameras, command, made_at=made_at, bar=counted)
    if scene.offset.any():
        notes = (*notes, f"coordinates are relative to the offset {offset_text(scene.offset)}")
    return dataclasses.replace(mesh, notes=(*notes, *mesh.notes))


def _record(directory: Path) -> dict[str, Any]:
    """metrics.json of an evaluation; empty where it is not there."""
    try:
        record = json.loads((directory / "metrics.json").read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise InputError(f"{directory / 'metrics.json'} cannot be read: {one_line(str(error))}; "
                         f"name {PLY_FILE} itself") from None  # fmt: skip
    return record if isinstance(record, dict) else {}


def _made_at(record: dict[str, Any]) -> tuple[int, int] | None:
    """Height and width of the pictures that the Gaussians are as sharp as, where it is known."""
    size = record.get("resolution" if "post_optimize" in record else "model_resolution")
    return (int(size[0]), int(size[1])) if isinstance(size, list) and len(size) == 2 else None


def _cameras(
    directory: Path | None, record: dict[str, Any], command: SurfaceCommand, offset: np.ndarray
) -> tuple[list[Cameras] | None, tuple[str, ...]]:
    """Cameras relative to the offset, None where they are not known; and what to say of that."""
    if command.cameras is not None:
        places: list[Any] = [capture_path(command.cameras)]
    else:
        places = [directory] if directory is not None else []
        places += [capture_path(record["capture"])] if record.get("capture") else []
    for place in places:
        try:
            find_camera_file(Path(place), "cameras")
        except InputError:
            if command.cameras is not None:
                raise
            continue
        frames = read_cameras(place, "cameras")
        return _by_size(frames, offset), (f"depth is drawn from the cameras of {place}",)
    return None, (SPHERE,)


def _by_size(frames: Sequence[Frame], offset: np.ndarray) -> list[Cameras]:
    """Cameras of frames relative to the offset, those of pictures of one size together."""
    groups = cameras_by_size(frames, [likely_size(frame) for frame in frames])
    return [moved_cameras(each, offset) for each in groups]
