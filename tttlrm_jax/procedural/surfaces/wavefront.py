"""Wavefront OBJ models with MTL materials, read through a function that fetches files by name."""

import dataclasses
import itertools
import posixpath

import numpy as np

from tttlrm_jax.core.errors import InputError
from tttlrm_jax.procedural.appearance.materials import Material
from tttlrm_jax.procedural.surfaces.models import (
    SEE_THROUGH,
    SHINE_LIMIT,
    Fetch,
    Model,
    coloured,
    decoded_texture,
    pictured,
)
from tttlrm_jax.procedural.surfaces.triangles import TriangleMesh

PLAIN = (0.8, 0.8, 0.8)  # of what no material describes


def read_obj(name: str, fetch: Fetch) -> Model:
    """Reads a model, seen from both sides; polygons become fans, and normals that are missing those
    of the faces.

    Raises InputError for a model without opaque faces, or with numbers or indices that are none.
    """
    text = _text(name, fetch)
    arrays: dict[str, list[list[float]]] = {"v": [], "vt": [], "vn": []}
    corners: list[tuple[int, int, int]] = []
    part: list[int] = []
    libraries: list[str] = []
    materials: dict[str, int] = {"": 0}
    current = 0
    try:
        for line in text.replace("\\\n", " ").splitlines():
            word, _, rest = line.strip().partition(" ")
            if word in arrays:
                arrays[word].append([float(value) for value in rest.split()[:3]])
            elif word == "f":
                ring = [_corner(item, arrays) for item in rest.split()]
                for second, third in itertools.pairwise(ring[1:]):
                    corners += [ring[0], second, third]
                    part.append(current)
            elif word == "usemtl":
                current = materials.setdefault(rest.strip(), len(materials))
            elif word == "mtllib":
                libraries.append(rest.strip())
        surface = _triangles(
            arrays, np.array(corners, np.int64).reshape(-1, 3, 3), np.array(part, np.int32)
        )
    except (ValueError, IndexError) as error:
        raise InputError(f"model={name} is no Wavefront OBJ ({error}); export it again") from None
    if not len(surface.triangles):
        raise InputError(f"model={name} has no faces; name another")
    known: dict[str, Material | None] = {}
    for library in libraries:
        known |= _read_mtl(posixpath.join(posixpath.dirname(name), library), fetch)
    plain = coloured(PLAIN, 0.0, 1.0)
    found = [known.get(material, plain) for material in materials]
    kept = np.array([material is not None for material in found])
    used = kept[surface.part]
    if not used.any():
        raise InputError(f"model={name} is all to be seen through; name another")
    return Model(
        dataclasses.replace(surface, triangles=surface.triangles[used], part=surface.part[used]),
        tuple(material or plain for material in found),
    )


def _text(name: str, fetch: Fetch) -> str:
    try:
        return fetch(name).decode("latin-1")
    except KeyError:
        raise InputError(f"model={name} does not exist; restore the archive") from None


def _corner(item: str, arrays: dict) -> tuple[int, int, int]:
    """Numbers of position, texture coordinate and normal, -1 for none, of `v/vt/vn`."""
    numbers = [int(number) if number else 0 for number in item.split("/")] + [0, 0]
    out = []
    for number, kind in zip(numbers, ("v", "vt", "vn"), strict=False):
        count = len(arrays[kind])
        index = number - 1 if number >= 0 else count + number
        if index >= count or index < -1 or (kind == "v" and index < 0):
            raise IndexError(f"{item} names a {kind} that is not there yet")
        out.append(index)
    return out[0], out[1], out[2]


def _triangles(arrays: dict, corners: np.ndarray, part: np.ndarray) -> TriangleMesh:
    """Both sides of triangles [triangle, 3, (v, vt, vn)]; degenerate ones are dropped."""
    position = np.array(arrays["v"], np.float64).reshape(-1, 3)[corners[..., 0]]
    face = np.cross(position[:, 1] - position[:, 0], position[:, 2] - position[:, 0])
    area = np.linalg.norm(face, axis=-1)
    used = area > 1e-12 * max(float(area.max(initial=0.0)), 1e-12)
    corners, position, part = corners[used], position[used], part[used]
    face = (face[used] / area[used, None])[:, None]
    normals = np.broadcast_to(face, position.shape).copy()
    if arrays["vn"]:
        given = np.array(arrays["vn"], np.float64).reshape(-1, 3)[corners[..., 2]]
        length = np.linalg.norm(given, axis=-1, keepdims=True)
        valid = (corners[..., 2:] >= 0) & (length > 1e-6)
        given = given / np.maximum(length, 1e-6)
        given = np.where((given * face).sum(axis=-1, keepdims=True) < 0, -given, given)
        normals = np.where(valid, given, normals)
    coordinates = np.zeros((*corners.shape[:2], 2))
    if arrays["vt"]:
        given = np.array([values[:2] for values in arrays["vt"]], np.float64).reshape(-1, 2)
        coordinates = np.where(corners[..., 1:2] >= 0, given[corners[..., 1]], 0.0)
    triangles = np.arange(3 * len(corners), dtype=np.int32).reshape(-1, 3)
    one = TriangleMesh(
        position.reshape(-1, 3).astype(np.float32), normals.reshape(-1, 3).astype(np.float32),
        triangles, part, coordinates.reshape(-1, 2).astype(np.float32),
    )  # fmt: skip
    return one.from_both_sides()


def _read_mtl(name: str, fetch: Fetch) -> dict[str, Material | None]:
    """Materials by name, None for what is to be seen through; {} if the file is missing."""
    try:
        lines = fetch(name).decode("latin-1").splitlines()
    except KeyError:
        return {}
    entries: dict[str, dict[str, str]] = {}
    for line in lines:
        word, _, rest = line.strip().partition(" ")
        if word == "newmtl":
            entries[rest.strip()] = {}
        elif entries and word:
            entries[list(entries)[-1]][word.lower()] = rest.strip()
    folder = posixpath.dirname(name)
    return {key: _material(entry, folder, fetch) for key, entry in entries.items()}


def _material(entry: dict[str, str], folder: str, fetch: Fetch) -> Material | None:
    opacity = float(entry["d"].split()[-1]) if "d" in entry else 1.0
    if "tr" in entry and "d" not in entry:
        opacity = 1.0 - float(entry["tr"])
    if opacity < SEE_THROUGH:
        return None
    shine = min(max(_colour(entry.get("ks"), (0.0,) * 3)), SHINE_LIMIT)
    shininess = float(np.clip(float(entry.get("ns", "20").split()[0]), 2.0, 200.0))
    colour = _colour(entry.get("kd"), PLAIN)
    if "map_kd" in entry:
        picture = _picture(posixpath.join(folder, entry["map_kd"].split()[-1]), fetch)
        if picture is not None:
            return pictured(picture, shine, shininess)
    return coloured(colour, shine, shininess)


def _colour(text: str | None, default: tuple[float, ...]) -> tuple[float, ...]:
    if text is None:
        return default
    values = [float(value) for value in text.split()[:3]]
    return tuple(np.clip(values if len(values) == 3 else values[:1] * 3, 0.0, 1.0))


def _picture(name: str, fetch: Fetch) -> np.ndarray | None:
    """Float32 [row, column, 3] of a texture file; None if it is missing or no picture."""
    try:
        return decoded_texture(fetch(name))
    except KeyError:
        return None
