"""Gaussians as binary PLY in the common 3D Gaussian splatting layout.

One vertex per Gaussian, little endian: `x y z`, `nx ny nz` (zero), `f_dc_0..2`, `f_rest_*`,
`opacity` (logit), `scale_0..2` (log), `rot_0..3` (w, x, y, z). `f_rest` holds the coefficients
above degree 0, channel-major: all of red, then green, then blue; 0, 9, 24, 45 or 72 columns for
degree 0 to 4 (most viewers read up to degree 3).

The published tttLRM exporter always writes 45 `f_rest` columns, packed from the left and filled
with zeros, and one-byte normals; `published_layout=True` writes that.

Positions may be relative to an offset (`core.geometry.offsets`): `comment offset X Y Z` in the
head says which.
"""

import os
from pathlib import Path
from typing import Any

import jax
import numpy as np

from tttlrm_jax.core.arrays import on_device
from tttlrm_jax.core.errors import InputError, listed
from tttlrm_jax.core.files.whole_files import draft_of
from tttlrm_jax.core.geometry.offsets import offset_text
from tttlrm_jax.core.types import Gaussians
from tttlrm_jax.export.ply import TYPES, PlyHead, ply_header, read_blocks, read_head
from tttlrm_jax.export.splats.writable import ExportCount, writable

PUBLISHED_REST = 45
OFFSET = "offset"  # first word of the comment
_DEGREE_OF_REST = {0: 0, 9: 1, 24: 2, 45: 3, 72: 4}


def write_ply(
    path: Path | str,
    gaussians: Gaussians,
    *,
    min_opacity: float = 0.0,
    published_layout: bool = False,
    offset: np.ndarray | None = None,
) -> ExportCount:
    """Writes the Gaussians of one scene; see `writable` for those that are left out.

    `offset` [3] is what the means are relative to; the head states it where it is not 0.
    """
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
    table = np.empty(count.num_written, [(name, "<" + TYPES[kind]) for name, kind in columns])
    for names, _, values in groups:
        for index, name in enumerate(names):
            table[name] = values[:, index]
    comments = []
    if offset is not None and np.any(offset):
        comments = [f"{OFFSET} {offset_text(offset)}", "x y z are relative to the offset"]
    head = ply_header(columns, count.num_written, comments)
    draft = draft_of(Path(path))
    with draft.open("wb") as file:
        file.write(head)
        table.tofile(file)
    os.replace(draft, path)
    return count


def read_offset(path: Path | str) -> np.ndarray:
    """The offset float64 [3] that a file of `write_ply` states; 0 where it states none."""
    for comment in read_head(path).comments:
        if comment.startswith(f"{OFFSET} "):
            return np.array([float(word) for word in comment.split()[1:4]])
    return np.zeros(3)


def read_ply(path: Path | str, *, published_degree: int | None = None) -> Gaussians:
    """The Gaussians of any 3D Gaussian splat PLY, as float32 arrays.

    Binary of either byte order or text; columns in any order and of any number type, those that
    are not of the layout are left out. Values are those stored: positions relative to the file's
    `read_offset`, quaternions of whatever length, NaN where the file has NaN (`writable` leaves
    such Gaussians out). The degree follows from the number of `f_rest` columns. Files in the
    published layout do not say theirs: give it as `published_degree`. The file is read block by
    block, so that memory is that of the result. Raises InputError if it is no splat scene, and for
    positions in double precision that float32 would move by more than the Gaussians are large.
    """
    head = read_head(path)
    degree = _degree(head, published_degree)
    count = head.num_vertices
    arrays: list[Any] = [np.empty((count, *shape), np.float32) for shape in _shapes(degree)]
    out = Gaussians(*arrays)
    columns = _columns(out)
    missing = [name for name in columns if name not in head.names]
    if missing:
        raise InputError(
            f"{path}: {listed(missing)} are missing from the vertex, which has "
            f"{listed(head.names)}; give a 3D Gaussian splat PLY"
        )
    first = 0
    for block in read_blocks(head):
        for name, values in columns.items():
            values[first : first + len(block)] = block[name]
        first += len(block)
    if any(head.dtype[axis].itemsize > 4 for axis in "xyz"):
        _check_fineness(head.path, out)
    return jax.tree.map(on_device, out)


def _check_fineness(path: Path, gaussians: Gaussians) -> None:
    """Raises InputError where float32 has no places between the Gaussians, by medians."""
    fine = np.isfinite(gaussians.mean).all(axis=1) & np.isfinite(gaussians.log_scale).all(axis=1)
    if not fine.any():
        return
    reach = float(np.median(np.abs(gaussians.mean[fine]).max(axis=1)))
    scale = float(np.exp(np.median(gaussians.log_scale[fine])))
    step = float(np.spacing(np.float32(reach)))
    if step > scale:
        raise InputError(
            f"{path}: x y z of around {reach:.4g} have steps of {step:.3g} in float32, more than "
            f"the median Gaussian's scale of {scale:.3g}; subtract an offset from them and state "
            "it in the head as `comment offset X Y Z`"
        )


def _degree(head: PlyHead, published_degree: int | None) -> int:
    if "packed_position" in head.names:
        raise InputError(
            f"{head.path} is a compressed PLY; unpack it with `npx @playcanvas/splat-transform "
            "IN.compressed.ply OUT.ply`"
        )
    num_rest = sum(name.startswith("f_rest_") for name in head.names)
    degree = _DEGREE_OF_REST.get(num_rest) if published_degree is None else published_degree
    if degree is None or 3 * ((degree + 1) ** 2 - 1) > num_rest:
        raise InputError.of(
            str(head.path), f"{num_rest} f_rest columns", "is not the number of any wanted degree",
            f"use one of {sorted(_DEGREE_OF_REST)} columns, or the right published_degree",
        )  # fmt: skip
    return degree


def _shapes(degree: int) -> tuple[tuple[int, ...], ...]:
    """Of one Gaussian's mean, coefficients, log scale, quaternion and logit."""
    return (3,), ((degree + 1) ** 2, 3), (3,), (4,), ()


def _columns(gaussians: Any) -> dict[str, np.ndarray]:
    """The places [gaussian] of a file's columns in the arrays of Gaussians, by name."""
    num_higher = gaussians.sh.shape[1] - 1
    groups = [
        (("x", "y", "z"), gaussians.mean.T),
        (_numbered("f_dc", 3), gaussians.sh[:, 0].T),
        (_numbered("scale", 3), gaussians.log_scale.T),
        (_numbered("rot", 4), gaussians.quaternion.T),
        (("opacity",), [gaussians.opacity_logit]),
    ]
    for channel in range(3):
        names = _numbered("f_rest", 3 * num_higher)[channel * num_higher :][:num_higher]
        groups.append((names, gaussians.sh[:, 1:, channel].T))
    return {
        name: place for names, places in groups for name, place in zip(names, places, strict=True)
    }


def _numbered(stem: str, count: int) -> tuple[str, ...]:
    return tuple(f"{stem}_{index}" for index in range(count))
