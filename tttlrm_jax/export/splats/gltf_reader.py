"""Gaussians of binary glTF with KHR_gaussian_splatting, of any tool that follows the extension.

Components may be whole numbers and interleaved, primitives may be several, and nodes may turn, move
and scale them evenly. Compressed files are refused.
"""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from tttlrm_jax.core.arrays import on_device
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.geometry.poses import PoseNormalisation
from tttlrm_jax.core.geometry.rotations import rotation_from_unit_quaternion
from tttlrm_jax.core.geometry.similarity import transform_gaussians
from tttlrm_jax.core.types import Gaussians
from tttlrm_jax.export.splats.frames import turned_about_x
from tttlrm_jax.export.splats.gltf import (
    BINARY_CHUNK,
    EXTENSION,
    JSON_CHUNK,
    MAGIC,
    MAX_DEGREE,
    coefficients,
)
from tttlrm_jax.export.splats.writable import opacity_logit

COMPONENTS = {5120: "i1", 5121: "u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}
REMEDY = "export it again, or give a .ply"
EVEN = 1e-4  # of a node's scale along its axes


def read_glb(path: Path | str) -> Gaussians:
    """The Gaussians of a .glb file, in the project's axes; see the module.

    Raises InputError for a file that is none, is cut short, holds no Gaussians of the extension, or
    holds them in a way that is not read.
    """
    path = Path(path)
    document, binary = _chunks(path)
    try:
        found = [
            _placed(path, _primitive(path, document, binary, each), matrix)
            for matrix, each in _primitives(path, document)
        ]
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} breaks the rules of glTF ({error!r}); {REMEDY}") from None
    if not found:
        raise InputError(
            f"{path} holds no Gaussians ({EXTENSION}), but other geometry; give a splat scene"
        )
    count = max(each.sh.shape[1] for each in found)
    parts = [turned_about_x(each) for each in found]
    return Gaussians(
        mean=on_device(np.concatenate([each.mean for each in parts])),
        sh=on_device(np.concatenate([_padded(each.sh, count) for each in parts])),
        log_scale=on_device(np.concatenate([each.log_scale for each in parts])),
        quaternion=on_device(np.concatenate([each.quaternion for each in parts])),
        opacity_logit=on_device(np.concatenate([each.opacity_logit for each in parts])),
    )


def _chunks(path: Path) -> tuple[dict[str, Any], np.ndarray]:
    """The text of a file, and its array of bytes, which stays on disk until it is used."""
    try:
        with path.open("rb") as file:
            head = file.read(20)
            magic, version, total, length, kind = struct.unpack("<IIIII", head)
            if (magic, version, kind) != (MAGIC, 2, JSON_CHUNK):
                raise InputError(f"{path} is not a binary glTF 2.0 file; give one")
            document = json.loads(file.read(length))
            size, kind = struct.unpack("<II", file.read(8))
            start = file.tell()
    except (struct.error, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is not a binary glTF 2.0 file; give one") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); check the path") from None
    if kind != BINARY_CHUNK or path.stat().st_size < start + size or not size:
        raise InputError(f"{path} lacks a part of its {total} bytes; copy the file again")
    return document, np.memmap(path, np.uint8, "r", start, (size,))


def _primitives(path: Path, document: dict[str, Any]) -> Iterator[tuple[np.ndarray, dict]]:
    """Matrix into the world [4, 4] and text of each primitive of Gaussians."""
    nodes = document.get("nodes", [])
    scenes = document.get("scenes", [])
    chosen = scenes[document.get("scene", 0)] if scenes else {"nodes": range(len(nodes))}
    stack = [(number, np.eye(4), 0) for number in chosen.get("nodes", [])]
    while stack:
        number, above, depth = stack.pop()
        if depth > len(nodes):
            _refuse(path, "has nodes below themselves")
        node = nodes[number]
        matrix = above @ _matrix(node)
        stack += [(child, matrix, depth + 1) for child in node.get("children", [])]
        if "mesh" in node:
            for each in document["meshes"][node["mesh"]]["primitives"]:
                if EXTENSION in each.get("extensions", {}):
                    yield matrix, each


def _matrix(node: dict[str, Any]) -> np.ndarray:
    if "matrix" in node:
        return np.array(node["matrix"], np.float64).reshape(4, 4).T
    x, y, z, w = node.get("rotation", (0, 0, 0, 1))
    out = np.eye(4)
    scale = np.array(node.get("scale", (1, 1, 1)), np.float64)
    out[:3, :3] = rotation_from_unit_quaternion(np.array([w, x, y, z])) * scale
    out[:3, 3] = node.get("translation", (0, 0, 0))
    return out


def _primitive(path: Path, document: dict, binary: np.ndarray, primitive: dict) -> Gaussians:
    """In the axes of its node."""
    properties = primitive["extensions"][EXTENSION]
    compressed = list(properties.get("extensions", {}))
    if compressed or properties.get("kernel", "ellipse") != "ellipse":
        _refuse(path, f"has Gaussians of {compressed or properties.get('kernel')}")
    attributes = primitive["attributes"]

    def values(name: str) -> np.ndarray:
        key = name if name == "POSITION" else f"{EXTENSION}:{name}"
        if key not in attributes:
            _refuse(path, f"has Gaussians without {key}")
        return _accessor(path, document, binary, attributes[key])

    degree = max(
        each for each in range(MAX_DEGREE + 1)
        if each == 0 or f"{EXTENSION}:SH_DEGREE_{each}_COEF_0" in attributes
    )  # fmt: skip
    names = [f"SH_DEGREE_{d}_COEF_{n}" for d, n in coefficients((degree + 1) ** 2)]
    smallest = np.finfo(np.float32).tiny
    found: dict[str, Any] = {
        "mean": values("POSITION"),
        "sh": np.stack([values(name) for name in names], axis=1),
        "log_scale": np.log(np.maximum(values("SCALE"), smallest)),
        "quaternion": np.roll(values("ROTATION"), 1, axis=-1),
        "opacity_logit": opacity_logit(values("OPACITY")[:, 0]),
    }
    return Gaussians(**found)


def _accessor(path: Path, document: dict, binary: np.ndarray, number: int) -> np.ndarray:
    """float32 [count, component]; whole numbers that are normalised are in [-1, 1]."""
    accessor = document["accessors"][number]
    if "sparse" in accessor or "bufferView" not in accessor:
        _refuse(path, "has accessors that are sparse or without a view")
    view = document["bufferViews"][accessor["bufferView"]]
    if view.get("extensions") or view["buffer"] != 0:
        _refuse(path, f"has views of {list(view.get('extensions', ['another file']))}")
    kind = np.dtype(COMPONENTS[accessor["componentType"]])
    width, count = WIDTHS[accessor["type"]], accessor["count"]
    start = view.get("byteOffset", 0) + accessor.get("byteOffset", 0)
    stride = view.get("byteStride", width * kind.itemsize)
    if start < 0 or start + stride * (count - 1) + width * kind.itemsize > len(binary):
        _refuse(path, "has an accessor that reaches beyond its array")
    stored = np.ndarray((count, width), kind, binary, start, (stride, kind.itemsize))
    out = stored.astype(np.float32)
    if accessor.get("normalized") and kind.kind in "iu":
        out = np.maximum(out / np.iinfo(kind).max, -1)
    return out


def _placed(path: Path, gaussians: Gaussians, matrix: np.ndarray) -> Gaussians:
    """In the world; raises InputError where the matrix is no similarity."""
    if np.array_equal(matrix, np.eye(4)):
        return gaussians
    lengths = np.linalg.norm(matrix[:3, :3], axis=0)
    scale = float(lengths.mean())
    if not (np.isfinite(matrix).all() and scale > 0 and np.ptp(lengths) <= EVEN * scale):
        _refuse(path, "has a node that stretches Gaussians unevenly")
    rotation = matrix[:3, :3] / scale
    if np.abs(rotation @ rotation.T - np.eye(3)).max() > EVEN or np.linalg.det(rotation) < 0:
        _refuse(path, "has a node that shears or mirrors Gaussians")
    moved = PoseNormalisation(rotation=rotation, translation=matrix[:3, 3], scale=scale)
    return transform_gaussians(gaussians, moved)


def _padded(sh: Any, count: int) -> np.ndarray:
    return np.pad(sh, ((0, 0), (0, count - sh.shape[1]), (0, 0)))


def _refuse(path: Path, why: str) -> NoReturn:
    raise InputError(f"{path} {why}, which is not read; {REMEDY}")
