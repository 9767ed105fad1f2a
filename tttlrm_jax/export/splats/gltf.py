"""Gaussians as binary glTF 2.0 with the extension KHR_gaussian_splatting of Khronos.

A primitive of points has attributes of float32: POSITION, and with the extension's prefix ROTATION
(unit quaternions x, y, z, w), SCALE (linear), OPACITY (linear) and SH_DEGREE_l_COEF_n (degree 0 to
3, the order and signs of 3D Gaussian splatting). The kernel is `ellipse`, the colour space
`srgb_rec709_display`. COLOR_0 shows the points to viewers that do not know the extension. The axes
are RUB (`frames`): y up, as glTF says.

Written and read with json and struct: a file is a head, a text and an array. pygltflib would carry
the extension, but leaves the packing to its user and holds a file's bytes twice; trimesh drops it.
"""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.geometry.spherical_harmonics import SH_CONSTANT
from tttlrm_jax.core.types import Gaussians
from tttlrm_jax.export.splats.frames import turned_about_x
from tttlrm_jax.export.splats.writable import EMPTY, ExportCount, opacity, writable

EXTENSION = "KHR_gaussian_splatting"
MAGIC, JSON_CHUNK, BINARY_CHUNK = 0x46546C67, 0x4E4F534A, 0x004E4942
LARGEST = 2**32 - 1  # bytes of a file
MAX_DEGREE = 3
FLOAT, BYTE = 5126, 5121  # types of components
VERTICES = 34962  # what a view of the array holds
TYPES = {1: "SCALAR", 3: "VEC3", 4: "VEC4"}
PROPERTIES = {
    "kernel": "ellipse", "colorSpace": "srgb_rec709_display", "projection": "perspective",
    "sortingMethod": "cameraDistance",
}  # fmt: skip


def write_glb(
    path: Path | str,
    gaussians: Gaussians,
    *,
    min_opacity: float = 0.0,
    offset: np.ndarray | None = None,
) -> ExportCount:
    """Writes one scene; see `writable` for the Gaussians that are left out.

    Nothing is quantised. Where positions are relative to an offset, `extras` of the node say which;
    readers do not add it. Raises InputError for degree 4, which the extension has not, and for
    files of more than 4 GiB.
    """
    kept, count = writable(gaussians, min_opacity)
    degree = round(kept.sh.shape[1] ** 0.5) - 1
    if degree > MAX_DEGREE:
        raise InputError(
            f".glb: {EXTENSION} has spherical harmonics up to degree {MAX_DEGREE}, not {degree}; "
            "write .ply or .spz"
        )
    if not count.num_written:
        raise InputError(f".glb: {EMPTY}")
    attributes = _attributes(turned_about_x(kept))
    document, size = _document(attributes, offset)
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    total = 12 + 8 + len(text) + 8 + size
    if total > LARGEST:
        raise InputError(f".glb: {total} bytes are more than the {LARGEST} of a file; write .ply")
    with Path(path).open("wb") as file:
        file.write(struct.pack("<III", MAGIC, 2, total))
        file.write(struct.pack("<II", len(text), JSON_CHUNK) + text)
        file.write(struct.pack("<II", size, BINARY_CHUNK))
        for values in attributes.values():
            values.tofile(file)
    return count


def _attributes(g: Any) -> dict[str, np.ndarray]:
    """Name and values [gaussian, component] of each, in the axes of the file."""
    base = 0.5 + SH_CONSTANT * g.sh[:, 0].astype(np.float64).clip(-10, 10)
    shown = np.concatenate([_linear(base.clip(0, 1)), opacity(g.opacity_logit)[:, None]], axis=-1)
    values: dict[str, np.ndarray] = {
        "POSITION": g.mean,
        "ROTATION": np.roll(g.quaternion, -1, axis=-1),
        "SCALE": np.exp(g.log_scale),
        "OPACITY": opacity(g.opacity_logit)[:, None],
    }
    for number, (degree, order) in enumerate(coefficients(g.sh.shape[1])):
        values[f"SH_DEGREE_{degree}_COEF_{order}"] = g.sh[:, number]
    floats = {
        name if name == "POSITION" else f"{EXTENSION}:{name}": np.ascontiguousarray(each, "<f4")
        for name, each in values.items()
    }
    return {**floats, "COLOR_0": np.rint(255 * shown).astype(np.uint8)}


def coefficients(count: int) -> Iterator[tuple[int, int]]:
    """Degree and place within it of each of the first `count` coefficients."""
    for number in range(count):
        degree = int(number**0.5)
        yield degree, number - degree**2


def _linear(srgb: np.ndarray) -> np.ndarray:
    """What COLOR_0 holds of colours that are sRGB (IEC 61966-2-1)."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def _document(
    attributes: dict[str, np.ndarray], offset: np.ndarray | None
) -> tuple[dict[str, Any], int]:
    """The file's text, and the size of its array in bytes."""
    accessors, views, place = [], [], 0
    for values in attributes.values():
        is_float = values.dtype != np.uint8
        views.append({
            "buffer": 0, "byteOffset": place, "byteLength": values.nbytes, "target": VERTICES
        })  # fmt: skip
        accessors.append({
            "bufferView": len(accessors), "componentType": FLOAT if is_float else BYTE,
            "count": len(values), "type": TYPES[values.shape[1]],
            **({} if is_float else {"normalized": True}),
        })  # fmt: skip
        place += values.nbytes
    position = attributes["POSITION"]
    accessors[0] |= {"min": position.min(axis=0).tolist(), "max": position.max(axis=0).tolist()}
    node: dict[str, Any] = {"mesh": 0, "name": "scene"}
    if offset is not None and np.any(offset):
        turned = (np.asarray(offset, np.float64) * [1, -1, -1]).tolist()
        node["extras"] = {"offset": turned}
    primitive = {
        "attributes": {name: number for number, name in enumerate(attributes)},
        "mode": 0,
        "extensions": {EXTENSION: PROPERTIES},
    }
    return {
        "asset": {"version": "2.0", "generator": "tttlrm-jax"},
        "extensionsUsed": [EXTENSION],
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [node],
        "meshes": [{"primitives": [primitive]}],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": place}],
    }, place
