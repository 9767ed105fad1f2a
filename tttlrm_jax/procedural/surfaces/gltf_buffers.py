"""Numbers and pictures in the buffers of a glTF 2.0 document (pygltflib, extra `objects`)."""

import base64
import posixpath
import urllib.parse
from typing import Any

import numpy as np

from tttlrm_jax.core.errors import InputError
from tttlrm_jax.procedural.surfaces.models import Fetch

COMPONENTS = {5120: "i1", 5121: "u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}
LARGEST = 50_000_000  # numbers in an accessor


class Buffers:
    """The buffers of a document, each fetched once, by name beside the document `name`.

    Raises KeyError, IndexError, ValueError or TypeError for what is broken.
    """

    def __init__(self, document: Any, name: str, fetch: Fetch):
        self._document, self._name, self._fetch = document, name, fetch
        self._known: dict[int, bytes] = {}

    def array(self, number: int) -> np.ndarray:
        """An accessor's numbers [count, width]: float32 where they are floats or normalised."""
        accessor = self._document.accessors[number]
        width, kind = WIDTHS[accessor.type], np.dtype(COMPONENTS[accessor.componentType])
        count = int(accessor.count)
        if not 0 <= count * width <= LARGEST:
            raise ValueError(f"accessor {number} has {count} elements")
        if accessor.bufferView is None:
            values = np.zeros((count, width), kind)
        else:
            values = self._strided(accessor.bufferView, accessor.byteOffset, kind, count, width)
        if accessor.sparse is not None:
            values = self._replaced(values, accessor.sparse)
        return _floats(values) if accessor.normalized or kind.kind == "f" else values

    def _replaced(self, values: np.ndarray, sparse: Any) -> np.ndarray:
        """Values with those that a sparse accessor gives for single elements."""
        kind = np.dtype(COMPONENTS[sparse.indices.componentType])
        view, offset = sparse.indices.bufferView, sparse.indices.byteOffset
        places = self._strided(view, offset, kind, sparse.count, 1)[:, 0]
        view, offset = sparse.values.bufferView, sparse.values.byteOffset
        values = values.copy()
        values[places] = self._strided(view, offset, values.dtype, sparse.count, values.shape[1])
        return values

    def _strided(self, view: int, offset: int | None, kind: np.dtype, count: int, width: int):
        """Elements [count, width] of a buffer view, which may lie apart."""
        content, stride = self.view(view), self._document.bufferViews[view].byteStride
        size = kind.itemsize * width
        stride = int(stride or size)
        offset = int(offset or 0)
        if count and (
            stride < size or offset < 0 or offset + (count - 1) * stride + size > len(content)
        ):
            raise ValueError(f"buffer view {view} of {len(content)} bytes ends too soon")
        if not count:
            return np.zeros((0, width), kind)
        rows = np.ndarray((count, size), np.uint8, content, offset, (stride, 1))
        return np.ascontiguousarray(rows).view(kind).reshape(count, width)

    def view(self, number: int) -> bytes:
        """The bytes of a buffer view."""
        view = self._document.bufferViews[number]
        start = int(view.byteOffset or 0)
        content = self._buffer(view.buffer)[start : start + int(view.byteLength)]
        if len(content) < view.byteLength or start < 0:
            raise ValueError(f"buffer view {number} reaches past its buffer")
        return content

    def _buffer(self, number: int) -> bytes:
        if number not in self._known:
            uri = self._document.buffers[number].uri
            self._known[number] = self._document.binary_blob() if uri is None else self.file(uri)
        content = self._known[number]
        if content is None:
            raise ValueError(f"buffer {number} is not in the file")
        return content

    def file(self, uri: str) -> bytes:
        """The bytes that a URI names: its own, or those of a file beside the document."""
        if uri.startswith("data:"):
            return base64.b64decode(uri.partition(",")[2], validate=True)
        name = urllib.parse.unquote(uri)
        try:
            return self._fetch(posixpath.join(posixpath.dirname(self._name), name))
        except KeyError:
            raise InputError(f"model={self._name} needs {name}, which is not there") from None


def _floats(values: np.ndarray) -> np.ndarray:
    """Float32 of floats, or of integers that stand for [0, 1] or [-1, 1]."""
    if values.dtype.kind == "f":
        return values.astype(np.float32)
    return np.maximum(values.astype(np.float32) / np.float32(np.iinfo(values.dtype).max), -1.0)
