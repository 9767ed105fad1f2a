"""Gaussians as binary PLY in the common 3D Gaussian splatting layout.

One vertex per Gaussian, little endian: `x y z`, `nx ny nz` (zero), `f_dc_0..2`, `f_rest_*`,
`opacity` (logit), `scale_0..2` (log), `rot_0..3` (w, x, y, z). `f_rest` holds the coefficients
above degree 0, channel-major: all of red, then green, then blue; 0, 9, 24, 45 or 72 columns for
degree 0 to 4 (most viewers read up to degree 3).

The published tttLRM exporter always writes 45 `f_rest` columns, packed from the left and filled
with zeros, and one-byte normals; `published_layout=True` writes that.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.types import Gaussians
from tttlrm_jax.export.writable import ExportCount, writable

PUBLISHED_REST = 45
TYPES = {"float": "<f4", "uchar": "u1"}  # of PLY in NumPy


def write_ply(
    path: Path | str,
    gaussians: Gaussians,
    *,
    min_opacity: float = 0.0,
    published_layout: bool = False,
) -> ExportCount:
    """Writes the Gaussians of one scene; see `writable` for those that are left out."""
    kept, count = writable(gaussians, min_opacity)
    num_rest = 3 * (kept.sh.shape[-2] - 1)
    if published_layout and num_rest > PUBLISHED_REST:
        raise InputError.of(
            "sh coefficients", kept.sh.shape[-2], "does not fit the 45 columns "
            "of the published layout", "write the standard layout",
        )  # fmt: skip
    rest = np.moveaxis(np.asarray(kept.sh)[:, 1:], -1, -2).reshape(count.num_written, num_rest)
    if published_layout:
        rest = np.pad(rest, ((0, 0), (0, PUBLISHED_REST - num_rest)))
    groups = [
        (("x", "y", "z"), "float", kept.mean),
        (("nx", "ny", "nz"), "uchar" if published_layout else "float", np.zeros_like(kept.mean)),
        (_numbered("f_dc", 3), "float", kept.sh[:, 0]),
        (_numbered("f_rest", rest.shape[1]), "float", rest),
        (("opacity",), "float", kept.opacity_logit[:, None]),
        (_numbered("scale", 3), "float", kept.log_scale),
        (_numbered("rot", 4), "float", kept.quaternion),
    ]
    columns = [(name, kind) for names, kind, _ in groups for name in names]
    table = np.empty(count.num_written, [(name, TYPES[kind]) for name, kind in columns])
    for names, _, values in groups:
        for index, name in enumerate(names):
            table[name] = values[:, index]
    Path(path).write_bytes(ply_header(columns, count.num_written) + table.tobytes())
    return count


def ply_header(columns: Sequence[tuple[str, str]], num_vertices: int | str) -> bytes:
    """The head of a file of vertices with these columns, (name, type of `TYPES`) each."""
    properties = "".join(f"property {kind} {name}\n" for name, kind in columns)
    return (
        f"ply\nformat binary_little_endian 1.0\nelement vertex {num_vertices}\n"
        f"{properties}end_header\n"
    ).encode("ascii")


def _numbered(stem: str, count: int) -> tuple[str, ...]:
    return tuple(f"{stem}_{index}" for index in range(count))
