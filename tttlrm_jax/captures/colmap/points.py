"""Triangulated points, where surfaces are, roughly: of COLMAP's sparse models, or in a PLY file."""

from pathlib import Path

import numpy as np

from tttlrm_jax.captures.ply_points import read_ply_points
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.files.binary_reader import BinaryReader
from tttlrm_jax.core.files.text_files import read_lines

REMEDY = "export the model again, or delete the file"
TRACK_ENTRY = 8  # bytes


def points_file(cameras: Path) -> Path | None:
    """The `points3D` file beside a `cameras` file, if there is one."""
    path = cameras.with_name("points3D" + cameras.suffix)
    return path if path.is_file() else None


def read_points(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Positions float64 [point, 3] in the capture's frame, and colours float32 [point, 3] in
    [0, 1], of a `points3D` or PLY file. Raises InputError for a broken file."""
    if path.suffix.lower() == ".ply":
        positions, colours = read_ply_points(path)
    else:
        rows = _binary(path) if path.suffix == ".bin" else _text(path)
        values = np.array(rows, np.float64).reshape(-1, 6)
        positions, colours = values[:, :3], (values[:, 3:] / 255).astype(np.float32)
    if not (np.isfinite(positions).all() and np.isfinite(colours).all()):
        raise InputError(f"{path} has points that are not finite; {REMEDY}")
    return positions, colours


def _binary(path: Path) -> list[tuple]:
    reader, rows, length = BinaryReader(path, REMEDY), [], 0
    for _ in range(reader.values("Q")[0]):
        reader.skip(TRACK_ENTRY * length)  # of the point before
        _, *values, _, length = reader.values("Q3d3BdQ")  # number, values, error
        rows.append(tuple(values))
    return rows


def _text(path: Path) -> list[tuple]:
    rows = []
    for line in read_lines(path, remedy=REMEDY):
        if not line or line.startswith("#"):
            continue
        try:
            x, y, z, red, green, blue = map(float, line.split()[1:7])
        except ValueError:
            raise InputError(
                f"{path}: the line {line[:60]!r} is no point of COLMAP's; {REMEDY}"
            ) from None
        rows.append((x, y, z, red, green, blue))
    return rows
