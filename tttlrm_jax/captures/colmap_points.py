"""Triangulated points of COLMAP's sparse models, text or binary: where surfaces are, roughly."""

import struct
from pathlib import Path

import numpy as np

from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.files.text_files import read_lines

REMEDY = "export the model again, or delete the file"
HEAD = struct.Struct("<Q3d3BdQ")  # number, position, colour, error, length of the track
TRACK_ENTRY = 8  # bytes


def points_file(cameras: Path) -> Path | None:
    """The `points3D` file beside a `cameras` file, if there is one."""
    path = cameras.with_name("points3D" + cameras.suffix)
    return path if path.is_file() else None


def read_points(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Positions float64 [point, 3] in the capture's frame, and colours float32 [point, 3] in
    [0, 1]. Raises InputError for a broken file."""
    rows = _binary(path) if path.suffix == ".bin" else _text(path)
    values = np.array(rows, np.float64).reshape(-1, 6)
    if not np.isfinite(values).all():
        raise InputError(f"{path} has points that are not finite; {REMEDY}")
    return values[:, :3], (values[:, 3:] / 255).astype(np.float32)


def _binary(path: Path) -> list[tuple]:
    content = path.read_bytes()
    rows, place = [], 8
    try:
        (count,) = struct.unpack_from("<Q", content)
        for _ in range(count):
            _, *values, _, length = HEAD.unpack_from(content, place)
            rows.append(tuple(values))
            place += HEAD.size + TRACK_ENTRY * length
    except struct.error:
        raise InputError(f"{path} ends in the middle of an entry; {REMEDY}") from None
    return rows


def _text(path: Path) -> list[tuple]:
    rows = []
    for line in read_lines(path, remedy=REMEDY):
        if not line or line.startswith("#"):
            continue
        try:
            rows.append(tuple(map(float, line.split()[1:7])))
            _, _, _, _, _, _ = rows[-1]
        except ValueError:
            raise InputError(
                f"{path}: the line {line[:60]!r} is no point of COLMAP's; {REMEDY}"
            ) from None
    return rows
