"""PLY files of vertices, of splats or of points: the head, and rows of plain numbers.

Written: binary little endian. Read: also big endian and text, with other elements around the
vertices, whatever the order and the type of the columns.
"""

import dataclasses
import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from tttlrm_jax.core.errors import InputError, first_line

TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2",
    "ushort": "u2", "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4",
    "uint32": "u4", "float": "f4", "float32": "f4", "double": "f8", "float64": "f8",
}  # fmt: skip
ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": "="}
LONGEST_HEAD = 1 << 20  # bytes
BLOCK = 1 << 16  # vertices at a time


@dataclasses.dataclass(frozen=True)
class PlyHead:
    """What the head of a file says, and where in it the vertices begin."""

    path: Path
    form: str  # a key of ORDERS
    dtype: np.dtype  # of a vertex, in the byte order of the file
    num_vertices: int
    start: int  # bytes before the first vertex, or before the first row of a text
    rows_before: int  # of other elements, in a text
    elements: tuple[str, ...]
    comments: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return self.dtype.names or ()


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


def read_head(path: Path | str) -> PlyHead:
    """Raises InputError for a file that is no PLY of vertices made of plain numbers."""
    path = Path(path)
    lines, size = _head_lines(path)
    form = next((words[1] for words in lines if words[0] == "format" and len(words) > 1), None)
    if form not in ORDERS:
        raise InputError(f"{path} is a PLY of no known format ({form}); export it again")
    elements = _elements(path, lines)
    names = tuple(elements)
    if "vertex" not in elements:
        raise InputError(f"{path} has no element vertex (but {list(names)}); give a PLY that has")
    count, properties = elements["vertex"]
    before = [elements[name] for name in names[: names.index("vertex")]]
    sizes = [  # a text is read by rows, lists or not
        _dtype(path, form, properties).itemsize * number
        for number, properties in before
        if form != "ascii"
    ]
    return PlyHead(
        path=path, form=form, dtype=_dtype(path, form, properties), num_vertices=count,
        start=size + sum(sizes),
        rows_before=sum(number for number, _ in before), elements=names,
        comments=tuple(" ".join(words[1:]) for words in lines if words[0] == "comment"),
    )  # fmt: skip


def _head_lines(path: Path) -> tuple[list[list[str]], int]:
    """The words of each line of the head, and its length in bytes."""
    lines = []
    try:
        with path.open("rb") as file:
            if file.readline(16).split() != [b"ply"]:
                raise InputError(f"{path} is not a PLY file; give a 3D Gaussian splat PLY")
            while file.tell() < LONGEST_HEAD and (line := file.readline(LONGEST_HEAD)):
                words = line.decode("ascii", "replace").split()
                if words == ["end_header"]:
                    return lines, file.tell()
                lines += [words] if words else []
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); check the path") from None
    raise InputError(f"{path} is a PLY whose head does not end; copy the file again")


def _elements(
    path: Path, lines: Sequence[list[str]]
) -> dict[str, tuple[int, list[tuple[str, ...]]]]:
    """Number of rows and properties (type, name) of each element, in the order of the file."""
    elements: dict[str, tuple[int, list]] = {}
    for words in lines:
        if words[0] == "element":
            if len(words) != 3 or not words[2].isdecimal():
                raise InputError(f"{path}: {' '.join(words)!r} is no element; export it again")
            elements[words[1]] = (int(words[2]), [])
        elif words[0] == "property":
            if not elements or len(words) < 3:
                raise InputError(f"{path}: {' '.join(words)!r} is no property; export it again")
            list(elements.values())[-1][1].append(tuple(words[1:]))
    return elements


def _dtype(path: Path, form: str, properties: Sequence[tuple[str, ...]]) -> np.dtype:
    odd = [" ".join(each) for each in properties if len(each) != 2 or each[0] not in TYPES]
    if odd:
        raise InputError(f"{path} has properties that are not plain numbers ({odd}); remove them")
    try:
        return np.dtype([(name, ORDERS[form] + TYPES[kind]) for kind, name in properties])
    except ValueError as error:
        raise InputError(f"{path}: columns cannot be told apart ({error}); rename one") from None


def read_blocks(head: PlyHead) -> Iterator[np.ndarray]:
    """The vertices, `BLOCK` at a time: a file of any size needs little memory.

    Raises InputError where the file holds fewer than its head says.
    """
    with head.path.open("rb") as file:
        file.seek(head.start)
        if head.form == "ascii":
            yield from _text_blocks(head, file)
            return
        there = os.fstat(file.fileno()).st_size - head.start
        if there < head.num_vertices * head.dtype.itemsize:
            raise InputError.of(
                str(head.path), f"{there} bytes of vertices",
                f"is less than the {head.num_vertices} of its header", "copy the file again",
            )  # fmt: skip
        for first in range(0, head.num_vertices, BLOCK):
            yield np.fromfile(file, head.dtype, min(BLOCK, head.num_vertices - first))


def _text_blocks(head: PlyHead, file: BinaryIO) -> Iterator[np.ndarray]:
    rows = (line for line in file if line.strip())
    rows = itertools.islice(rows, head.rows_before, head.rows_before + head.num_vertices)
    count = 0
    while lines := list(itertools.islice(rows, BLOCK)):
        try:
            yield np.loadtxt(lines, head.dtype, ndmin=1, comments=None)
        except ValueError as error:
            raise InputError(
                f"{head.path}: vertices from {count} on cannot be read ({first_line(error)}); "
                "export it again"
            ) from None
        count += len(lines)
    if count < head.num_vertices:
        raise InputError.of(
            str(head.path), f"{count} vertices",
            f"is less than the {head.num_vertices} of its header", "copy the file again",
        )  # fmt: skip


def read_vertices(path: Path) -> np.ndarray:
    """All vertices of a PLY file as a structured array; for large files see `read_blocks`."""
    head = read_head(path)
    return np.concatenate([np.empty(0, head.dtype), *read_blocks(head)])
