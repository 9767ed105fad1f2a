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

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tttlrm_jax.core.arrays import on_device
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.geometry.offsets import offset_text
from tttlrm_jax.core.types import Gaussians
from tttlrm_jax.export.splats.writable import ExportCount, writable

PUBLISHED_REST = 45
OFFSET = "offset"  # first word of the comment
TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "<i2", "int16": "<i2",
    "ushort": "<u2", "uint16": "<u2", "int": "<i4", "int32": "<i4", "uint": "<u4",
    "uint32": "<u4", "float": "<f4", "float32": "<f4", "double": "<f8", "float64": "<f8",
}  # fmt: skip
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
    table = np.empty(count.num_written, [(name, TYPES[kind]) for name, kind in columns])
    for names, _, values in groups:
        for index, name in enumerate(names):
            table[name] = values[:, index]
    comments = []
    if offset is not None and np.any(offset):
        comments = [f"{OFFSET} {offset_text(offset)}", "x y z are relative to the offset"]
    head = ply_header(columns, count.num_written, comments)
    Path(path).write_bytes(head + table.tobytes())
    return count


def ply_header(
    columns: Sequence[tuple[str, str]], num_vertices: int | str, comments: Sequence[str] = ()
) -> bytes:
    """The head of a file of vertices with these columns, (name, type of `TYPES`) each."""
    said = "".join(f"comment {each}\n" for each in comments)
    properties = "".join(f"property {kind} {name}\n" for name, kind in columns)
    return (
        f"ply\nformat binary_little_endian 1.0\n{said}element vertex {num_vertices}\n"
        f"{properties}end_header\n"
    ).encode("ascii")


def read_offset(path: Path | str) -> np.ndarray:
    """The offset float64 [3] that a file of `write_ply` states; 0 where it states none."""
    head = Path(path).read_bytes().partition(b"end_header\n")[0].decode("ascii", "replace")
    for line in head.splitlines():
        if line.startswith(f"comment {OFFSET} "):
            return np.array([float(word) for word in line.split()[2:5]])
    return np.zeros(3)


def read_ply(path: Path | str, *, published_degree: int | None = None) -> Gaussians:
    """Reads what `write_ply` wrote (any column order and number type), as float32 arrays.

    Positions are those of the file, relative to its `read_offset`.
    The degree follows from the number of `f_rest` columns. Files in the published layout do not
    say theirs: give it as `published_degree`. Raises InputError if the file is not such a PLY.
    """
    table = read_vertices(Path(path))
    names = table.dtype.names or ()

    def group(*columns: str) -> np.ndarray:
        missing = [column for column in columns if column not in names]
        if missing:
            raise InputError.of(
                str(path), missing, "are missing from the vertex", "give a 3D Gaussian splat PLY"
            )
        stacked = [table[column].astype(np.float32) for column in columns]
        return np.stack(stacked, axis=-1) if columns else np.zeros((len(table), 0), np.float32)

    num_rest = sum(name.startswith("f_rest_") for name in names)
    degree = _DEGREE_OF_REST.get(num_rest) if published_degree is None else published_degree
    if degree is None or 3 * ((degree + 1) ** 2 - 1) > num_rest:
        raise InputError.of(
            str(path), f"{num_rest} f_rest columns", "is not the number of any wanted degree",
            f"use one of {sorted(_DEGREE_OF_REST)} columns, or the right published_degree",
        )  # fmt: skip
    num_higher = (degree + 1) ** 2 - 1
    rest = group(*_numbered("f_rest", 3 * num_higher)).reshape(len(table), 3, num_higher)
    base = group(*_numbered("f_dc", 3))
    return Gaussians(
        mean=on_device(group("x", "y", "z")),
        sh=on_device(np.concatenate([base[:, None], np.moveaxis(rest, 1, 2)], axis=1)),
        log_scale=on_device(group(*_numbered("scale", 3))),
        quaternion=on_device(group(*_numbered("rot", 4))),
        opacity_logit=on_device(group("opacity")[:, 0]),
    )


def _numbered(stem: str, count: int) -> tuple[str, ...]:
    return tuple(f"{stem}_{index}" for index in range(count))


def read_vertices(path: Path) -> np.ndarray:
    """The vertices of a binary PLY file, of splats or of points, as a structured array.

    Raises InputError for a file that is no such PLY, and for one that is cut short.
    """
    head, mark, body = path.read_bytes().partition(b"end_header\n")
    lines = [line.split() for line in head.decode("ascii", "replace").splitlines()]
    if not mark or not lines or lines[0] != ["ply"]:
        raise InputError(f"{path} is not a PLY file; give a 3D Gaussian splat PLY")
    if ["format", "binary_little_endian", "1.0"] not in lines:
        raise InputError(f"{path} is not binary little endian; convert it first")
    elements = [line for line in lines if line[:1] == ["element"]]
    if len(elements) != 1 or elements[0][1:2] != ["vertex"]:
        raise InputError(f"{path} holds elements other than one list of vertices; remove them")
    properties = [line for line in lines if line[:1] == ["property"]]
    columns = [(line[2], TYPES[line[1]]) for line in properties if line[1] in TYPES]
    if len(columns) < len(properties):
        raise InputError(f"{path} has vertex properties that are not plain numbers; remove them")
    dtype, count = np.dtype(columns), int(elements[0][2])
    if len(body) < count * dtype.itemsize:
        raise InputError.of(
            str(path), f"{len(body)} bytes of vertices", f"is less than the {count} of its header",
            "copy the file again",
        )  # fmt: skip
    return np.frombuffer(body, dtype, count)
