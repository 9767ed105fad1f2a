"""The formats of Gaussians by suffix: what writes them, what reads them.

Read and written are stored values in the project's conventions (`core.types.Gaussians`): log
scales, logits of opacities, quaternions wxyz. What a format cannot hold is in its module's
docstring and in docs/guides/formats.md.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.types import Gaussians
from tttlrm_jax.export.splats.converted import (
    converter,
    read_converted,
    write_compressed_ply,
    write_sog,
)
from tttlrm_jax.export.splats.gltf import write_glb
from tttlrm_jax.export.splats.gltf_reader import read_glb
from tttlrm_jax.export.splats.ply import read_ply, write_ply
from tttlrm_jax.export.splats.splat import read_splat, write_splat
from tttlrm_jax.export.splats.spz import read_spz, write_spz
from tttlrm_jax.export.splats.writable import ExportCount


@dataclasses.dataclass(frozen=True)
class SplatFormat:
    """`write(path, gaussians, min_opacity=, offset=, ...)` and `read(path)`.

    `check()` raises InputError where a program that is needed is not there.
    """

    write: Callable[..., ExportCount]
    read: Callable[[Path], Gaussians]
    check: Callable[[], Any] | None = None


FORMATS = {
    ".ply": SplatFormat(write_ply, read_ply),
    ".splat": SplatFormat(write_splat, read_splat),
    ".spz": SplatFormat(write_spz, read_spz),
    ".glb": SplatFormat(write_glb, read_glb),
    ".sog": SplatFormat(write_sog, read_converted, converter),
    ".compressed.ply": SplatFormat(write_compressed_ply, read_converted, converter),
}


def write_splats(
    path: Path | str,
    gaussians: Gaussians,
    *,
    min_opacity: float = 0.0,
    offset: np.ndarray | None = None,
    **options: Any,
) -> ExportCount:
    """Writes the Gaussians of one scene in the format of the suffix; see `FORMATS`.

    Upper case suffixes are read as lower case ones. `min_opacity` in [0, 1): Gaussians whose
    opacity does not exceed it are left out, as are invalid ones (`writable`). Means are written as
    they are; `offset` [3] says what they are relative to, where the format has a place for it
    (PLY). `options` are the format's own. Raises InputError for a suffix that no writer knows,
    before anything is written.
    """
    form = format_of(path)
    if form.check is not None:
        form.check()
    return form.write(Path(path), gaussians, min_opacity=min_opacity, offset=offset, **options)


def read_splats(path: Path | str) -> Gaussians:
    """The Gaussians of a file in a format that can be read, float32, as the file stores them.

    Values that are not finite stay what they are; `writable` says which Gaussians can be drawn.
    Raises InputError, in one sentence, for a suffix that no reader knows, a file that cannot be
    read and one that is no splat scene.
    """
    return format_of(path).read(Path(path))


def format_of(path: Path | str) -> SplatFormat:
    """The format that the longest known suffix of the name stands for."""
    name = Path(path).name.lower()
    suffixes = [suffix for suffix in FORMATS if name.endswith(suffix)]
    if not suffixes:
        raise InputError.of(
            "path", path, "has no suffix of a Gaussian file",
            f"end it with one of {', '.join(FORMATS)}",
        )  # fmt: skip
    return FORMATS[max(suffixes, key=len)]
