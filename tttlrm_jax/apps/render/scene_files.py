"""The file of Gaussians that a command is given, itself or as a directory that holds it."""

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tttlrm_jax.apps.progress import announced
from tttlrm_jax.apps.reconstruct.gaussian_files import PLY_FILE
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.types import Gaussians
from tttlrm_jax.export.splats.formats import read_splats
from tttlrm_jax.export.splats.ply import read_offset
from tttlrm_jax.export.splats.writable import num_invalid

# of those that are read; the most exact first
IN_DIRECTORIES = (PLY_FILE, "scene.glb", "scene.spz", "scene.splat")


@dataclasses.dataclass(frozen=True, eq=False)
class OpenScene:
    """A scene with what its means are relative to."""

    name: str
    gaussians: Gaussians
    offset: np.ndarray  # float64 [3]


def open_scene(path: str | Path) -> OpenScene:
    """Reads a file of Gaussians, or the one in an output directory of eval.py.

    Raises InputError where there is none, for one that is broken, and for an empty one.
    """
    file = scene_file(Path(path))
    with announced(f"reading {file}"):
        gaussians = read_splats(file)
        offset = read_offset(file) if file.suffix.lower() == ".ply" else np.zeros(3)
    if not len(gaussians.mean):
        raise InputError.of("scene", file, "holds no Gaussian", "give another file")
    left_out = num_invalid(gaussians)
    if left_out:
        print(
            f"note: {left_out} of {len(gaussians.mean)} Gaussians are left out as invalid (a value "
            "that is not finite, or a quaternion of zeros)",
            file=sys.stderr,
        )
    name = file.parent.absolute().name if file.name in IN_DIRECTORIES else file.stem
    return OpenScene(name, gaussians, offset)


def file_in(directory: Path) -> Path | None:
    """The most exact file of Gaussians that `eval.py --save` has written; None: there is none."""
    files = (directory / name for name in IN_DIRECTORIES)
    return next((file for file in files if file.is_file()), None)


def scene_file(path: Path) -> Path:
    """The file itself, or that of a directory. Raises InputError where there is none."""
    if path.is_dir():
        file = file_in(path)
        if file is None:
            raise InputError.of(
                "scene", path, f"is a directory without {', '.join(IN_DIRECTORIES)}",
                "name a file of Gaussians or an output directory of eval.py",
            )  # fmt: skip
        return file
    if not path.is_file():
        raise InputError.of("scene", path, "does not exist", "name a file of Gaussians")
    return path


def run_notes(directory: Path) -> dict[str, Any]:
    """What metrics.json says, {} where there is none that can be read."""
    try:
        document = json.loads((directory / "metrics.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def background_of(notes: dict[str, Any]) -> tuple[float, float, float] | None:
    """The colour behind a run's scene, where its metrics.json has it."""
    colour = notes.get("background")
    fits = isinstance(colour, Sequence) and len(colour) == 3
    return tuple(map(float, colour)) if fits else None  # type: ignore[return-value]
