"""The file of Gaussians that a command is given, itself or as a directory that holds it."""

import dataclasses
from pathlib import Path

import numpy as np

from tttlrm_jax.apps.progress import announced
from tttlrm_jax.apps.reconstruct.gaussian_files import PLY_FILE
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.types import Gaussians
from tttlrm_jax.export.splats.formats import read_splats
from tttlrm_jax.export.splats.ply import read_offset


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
    name = file.parent.absolute().name if file.stem == Path(PLY_FILE).stem else file.stem
    return OpenScene(name, gaussians, offset)


def scene_file(path: Path) -> Path:
    """The file itself, or `scene.ply` of a directory. Raises InputError where there is none."""
    if path.is_dir():
        if not (path / PLY_FILE).is_file():
            raise InputError.of(
                "scene", path, f"is a directory without {PLY_FILE}",
                "name a file of Gaussians or an output directory of eval.py",
            )  # fmt: skip
        return path / PLY_FILE
    if not path.is_file():
        raise InputError.of("scene", path, "does not exist", "name a file of Gaussians")
    return path
