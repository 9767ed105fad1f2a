"""glTF binaries written with json and struct, for tests that read them with a library."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

COMPONENTS = {"i1": 5120, "u1": 5121, "i2": 5122, "u2": 5123, "u4": 5125, "f4": 5126}
TYPES = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4", 16: "MAT4"}
CUBE = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float32)
CUBE_FACES = np.array([
    [0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1],
    [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3],
], np.uint16)  # fmt: skip
QUAD = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], np.float32)
QUAD_FACES = np.array([[0, 1, 2], [0, 2, 3]], np.uint8)
QUAD_PLACES = np.array([[0, 1], [1, 1], [1, 0], [0, 0]], np.float32)  # v runs down


class Document:
    """A document under construction; one buffer, a view for each array."""

    def __init__(self, **more: Any):
        self.json: dict[str, Any] = {
            "asset": {"version": "2.0"}, "scene": 0, "scenes": [{"nodes": []}], "nodes": [],
            "meshes": [], "accessors": [], "bufferViews": [], "buffers": [],
        } | more  # fmt: skip
        self.content = b""

    def view(self, content: bytes, **more: Any) -> int:
        self.content += b"\0" * (-len(self.content) % 4)
        place = {"buffer": 0, "byteOffset": len(self.content), "byteLength": len(content)}
        self.json["bufferViews"].append(place | more)
        self.content += content
        return len(self.json["bufferViews"]) - 1

    def accessor(self, array: np.ndarray, **more: Any) -> int:
        array = array.reshape(len(array), -1)
        self.json["accessors"].append({
            "bufferView": self.view(np.ascontiguousarray(array).tobytes()), "count": len(array),
            "componentType": COMPONENTS[array.dtype.str[1:]], "type": TYPES[array.shape[1]],
        } | more)  # fmt: skip
        return len(self.json["accessors"]) - 1

    def mesh(
        self, positions: np.ndarray, faces: np.ndarray | None = None, primitive: dict | None = None,
        attributes: dict | None = None, **node: Any,
    ) -> None:  # fmt: skip
        """A mesh of one primitive, and a node of the scene that has it."""
        given = {"attributes": {"POSITION": self.accessor(positions)} | (attributes or {})}
        if faces is not None:
            given["indices"] = self.accessor(faces.reshape(-1))
        self.json["meshes"].append({"primitives": [given | (primitive or {})]})
        self.json["nodes"].append({"mesh": len(self.json["meshes"]) - 1} | node)
        self.json["scenes"][0]["nodes"].append(len(self.json["nodes"]) - 1)

    def glb(self) -> bytes:
        document = dict(self.json)
        document["buffers"] = [{"byteLength": len(self.content)}]
        text = json.dumps(document).encode()
        text += b" " * (-len(text) % 4)
        body = self.content + b"\0" * (-len(self.content) % 4)
        chunks = struct.pack("<I4s", len(text), b"JSON") + text
        chunks += struct.pack("<I4s", len(body), b"BIN\0") + body
        return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


def cube(colour: tuple[float, ...] = (0.2, 0.5, 0.8, 1.0), **more: Any) -> bytes:
    """A cube of one colour (linear light)."""
    document = Document(
        materials=[{"pbrMetallicRoughness": {"baseColorFactor": colour}}], **more
    )  # fmt: skip
    document.mesh(CUBE, CUBE_FACES, {"material": 0}, scale=[1.0, 2.0, 0.5])
    return document.glb()


def write_models(path: Path, count: int = 3) -> Path:
    """A ZIP archive of cubes; the third of the names is held out for evaluation."""
    import zipfile

    with zipfile.ZipFile(path, "w") as archive:
        for number, name in enumerate(("made/a.glb", "made/b.glb", "made/l.glb")[:count]):
            archive.writestr(name, cube((0.1 + 0.4 * number, 0.5, 0.2, 1.0)))
    return path
