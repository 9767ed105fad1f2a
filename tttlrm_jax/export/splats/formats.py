"""Gaussians as a file of the format that its suffix names."""

from pathlib import Path

import numpy as np

from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.types import Gaussians
from tttlrm_jax.export.ply import write_ply
from tttlrm_jax.export.splats.splat import write_splat
from tttlrm_jax.export.splats.writable import ExportCount

WRITERS = {".ply": write_ply, ".splat": write_splat}


def save_gaussians(
    path: Path | str,
    gaussians: Gaussians,
    *,
    min_opacity: float = 0.0,
    offset: np.ndarray | None = None,
) -> ExportCount:
    """Writes the Gaussians of one scene in the format of the suffix; see `WRITERS`.

    Upper case suffixes are read as lower case ones. `min_opacity` in [0, 1): Gaussians whose
    opacity does not exceed it are left out, as are invalid ones (`export.splats.writable`). Means are
    written as they are; `offset` [3] says what they are relative to, where the format has a place
    for it (PLY). Raises InputError for a suffix that no writer knows, before anything is written.
    """
    write = WRITERS.get(Path(path).suffix.lower())
    if write is None:
        raise InputError.of(
            "path", path, "has no suffix of a Gaussian file",
            f"end it with one of {', '.join(WRITERS)}",
        )  # fmt: skip
    return write(path, gaussians, min_opacity=min_opacity, offset=offset)
