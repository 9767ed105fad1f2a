"""Points with colours in PLY files, as nerfstudio, Open3D and photogrammetry write them."""

import io
import reprlib
from pathlib import Path
from typing import Any

import numpy as np

from tttlrm_jax.core.errors import InputError, listed

REMEDY = "write it again as PLY with x, y, z and red, green, blue"
FORMATS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2",
    "ushort": "u2", "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4",
    "float": "f4", "float32": "f4", "double": "f8", "float64": "f8",
}  # fmt: skip
PLACE, COLOURS = ("x", "y", "z"), (("red", "green", "blue"), ("r", "g", "b"))
GREY = 0.5  # of points without colour
COLMAP_FILES = ("colmap/sparse/0/points3D.bin", "colmap/sparse/0/points3D.txt")


def points_of_document(
    path: Path, document: dict[str, Any]
) -> tuple[Path | None, np.ndarray | None, tuple[str, ...]]:
    """The file of points of a camera file, [3, 4] from its world to the poses' (None: it is
    theirs), and notes.

    As nerfstudio takes them: the PLY that `ply_file_path` names is in the world of the poses, but
    for an `applied_scale`. Without one, COLMAP's points in `colmap/sparse/0` are moved by
    `applied_transform` first, where it is stated. Raises InputError for such keys that are no
    numbers.
    """
    name = document.get("ply_file_path")
    if name is not None:
        points = path.parent / str(name)
        if not points.is_file():
            said = f"ply_file_path={reprlib.repr(name)} is no file: there are no points"
            return None, None, (said,)
        frame = _scale(path, document) * np.eye(3, 4)
    else:
        found = (path.parent / each for each in COLMAP_FILES)
        points = next((each for each in found if each.is_file()), None)
        if points is None or document.get("applied_transform") is None:
            return None, None, ()
        frame = applied_frame(path, document)
    return points, None if np.array_equal(frame, np.eye(3, 4)) else frame, ()


def applied_frame(path: Path, document: dict[str, Any]) -> np.ndarray:
    """[3, 4] from COLMAP's world to the poses' of a document that has `applied_transform`."""
    applied = _numbers(path, document, "applied_transform", (3, 4))
    return _scale(path, document) * applied[:3]


def _scale(path: Path, document: dict[str, Any]) -> float | np.ndarray:
    stated = document.get("applied_scale") is not None
    return _numbers(path, document, "applied_scale", ()) if stated else 1.0


def _numbers(path: Path, document: dict[str, Any], key: str, shape: tuple) -> np.ndarray:
    """What a key holds, of a shape (a matrix may have its last row, too), finite."""
    try:
        numbers = np.asarray(document[key], np.float64)
    except (TypeError, ValueError):
        numbers = np.array(np.nan)
    allowed = (shape, (4, 4)) if shape else (shape,)
    if numbers.shape not in allowed or not np.isfinite(numbers).all():
        raise InputError(
            f"{path}: {key}={reprlib.repr(document[key])} is not "
            f"{'a 3x4 matrix' if shape else 'a number'}; correct it, or remove it"
        )
    return numbers


def read_ply_points(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Positions float64 [point, 3] and colours float32 [point, 3] in [0, 1], grey without any.

    The vertices come first, other elements after them are not read. Raises InputError for a file
    that is no such PLY, or is cut short.
    """
    head, mark, body = path.read_bytes().partition(b"end_header")
    lines = [line.split() for line in head.decode("ascii", "replace").splitlines()]
    kinds = [line[1] for line in lines if line[:1] == ["format"] and len(line) > 1]
    if not mark or lines[:1] != [["ply"]] or not kinds or kinds[0] not in FORMATS:
        raise InputError(f"{path} is not a PLY file; {REMEDY}")
    columns, count = _vertex(path, lines)
    body = body[body.index(b"\n") + 1 :]
    if kinds[0] == "ascii":
        table = _text(path, body, columns, count)
    else:
        table = _binary(path, body, columns, count, FORMATS[kinds[0]])
    missing = [name for name in PLACE if name not in table]
    if missing:
        raise InputError(f"{path} has vertices without {listed(missing)}; {REMEDY}")
    positions = np.stack([table[name] for name in PLACE], axis=-1).astype(np.float64)
    return positions, _colours(table, dict(columns), count)


def _vertex(path: Path, lines: list[list[str]]) -> tuple[list[tuple[str, str]], int]:
    """Names and types of the vertices' columns, and how many vertices there are."""
    places = [n for n, line in enumerate(lines) if line[:1] == ["element"]]
    first = lines[places[0]] if places else []
    if first[1:2] != ["vertex"] or not first[2:3] or not first[2].isdecimal():
        raise InputError(f"{path} does not begin with vertices; {REMEDY}")
    end = places[1] if len(places) > 1 else len(lines)
    properties = [line for line in lines[places[0] : end] if line[:1] == ["property"]]
    if any(len(line) != 3 or line[1] not in TYPES for line in properties):
        raise InputError(f"{path} has vertices that are not plain numbers; {REMEDY}")
    return [(line[2], TYPES[line[1]]) for line in properties], int(first[2])


def _text(path: Path, body: bytes, columns, count: int) -> dict[str, np.ndarray]:
    rows = io.StringIO(body.decode("ascii", "replace"))
    values: np.ndarray = np.empty((0, len(columns)))
    try:
        values = np.loadtxt(rows, np.float64, max_rows=count, ndmin=2) if count else values
    except ValueError as error:
        raise InputError(f"{path} has vertices that are no numbers ({error}); {REMEDY}") from None
    if values.shape != (count, len(columns)):
        raise _cut(path, f"{values.shape[0]} vertices of {values.shape[1]} numbers", count)
    return {name: values[:, n] for n, (name, _) in enumerate(columns)}


def _binary(path: Path, body: bytes, columns, count: int, order: str) -> dict[str, np.ndarray]:
    dtype = np.dtype([(name, order + kind) for name, kind in columns])
    if len(body) < count * dtype.itemsize:
        raise _cut(path, f"{len(body)} bytes of vertices", count)
    table = np.frombuffer(body, dtype, count)
    return {name: table[name] for name, _ in columns}


def _cut(path: Path, found: str, count: int) -> InputError:
    return InputError.of(
        str(path), found, f"is not the {count} vertices of its header", "copy the file again"
    )


def _colours(table: dict[str, np.ndarray], types: dict[str, str], count: int) -> np.ndarray:
    names = next((names for names in COLOURS if set(names) <= table.keys()), None)
    if names is None:
        return np.full((count, 3), GREY, np.float32)
    whole = np.dtype(types[names[0]])
    most = np.iinfo(whole).max if whole.kind in "iu" else 1.0
    colours = np.stack([table[name] for name in names], axis=-1) / most
    return np.clip(colours, 0.0, 1.0).astype(np.float32)
