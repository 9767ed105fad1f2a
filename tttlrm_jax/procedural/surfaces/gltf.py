"""glTF 2.0 models (.glb, .gltf) with their materials, read through a function that fetches files.

The structure is read by pygltflib (extra `objects`). Read are the nodes of the default scene with
their transforms, triangles (lists, strips and fans), normals, vertex colours, and the base colour
of materials (`gltf_materials`). Nothing is transparent here: what is less opaque than the alpha
cutoff, or than 0.4 where it blends, is cut away. Skeletons stand as the nodes say, animations and
morph targets are at rest; compressed models (Draco, meshopt, Basis) are refused.
"""

import dataclasses
import json
import struct
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np

from tttlrm_jax.core.errors import InputError, first_line
from tttlrm_jax.procedural.surfaces.gltf_buffers import Buffers
from tttlrm_jax.procedural.surfaces.gltf_materials import WEBP, Look, read_look, to_srgb
from tttlrm_jax.procedural.surfaces.models import Fetch, Model
from tttlrm_jax.procedural.surfaces.triangles import TriangleMesh, join, subdivide

Sides = Literal["both", "material"]
MAGIC = b"glTF"
# what a document may require: how it is stored is read, how it shines is not shown
READ = ("KHR_mesh_quantization", "KHR_texture_transform", WEBP, "KHR_lights_punctual")
SHADING = "KHR_materials_"
MODES = {4: "triangles", 5: "strips", 6: "fans"}
DEEPEST = 200  # nodes below one another
CUT_LEVELS = 4  # subdivisions along the border of what a texture cuts away
PLACES = np.array([  # barycentric coordinates at which a texture's alpha is looked up
    [i, j, 6 - i - j] for i in range(7) for j in range(7 - i)
]) / 6.0  # fmt: skip
BROKEN = (
    KeyError, IndexError, TypeError, ValueError, AttributeError, struct.error, OverflowError,
    RecursionError, OSError,
)  # fmt: skip


def read_gltf(name: str, fetch: Fetch, sides: Sides = "both") -> Model:
    """Reads a model, y up; normals that are missing are those of the faces.

    With `sides="both"` all triangles are seen from both sides, as reconstructions are; with
    `"material"` only those whose material is double-sided. Raises InputError for a model that is
    broken, empty or compressed, and where pygltflib is not installed.
    """
    try:
        content = fetch(name)
    except KeyError:
        raise InputError(f"model={name} does not exist; restore the archive") from None
    try:
        document = _parsed(name, content)
        return _model(name, document, Buffers(document, name, fetch), sides)
    except InputError:
        raise
    except BROKEN as error:
        raise InputError(
            f"model={name} is no glTF 2.0 that can be read ({type(error).__name__}: "
            f"{first_line(error)}); export it again"
        ) from None


def _parsed(name: str, content: bytes) -> Any:
    try:
        import pygltflib
    except ImportError:
        raise InputError(
            f"model={name} is glTF, which needs the extra `objects`; pip install "
            "tttlrm-jax[objects]"
        ) from None
    if content[:4] == MAGIC:
        version, length = struct.unpack_from("<II", content, 4)
        if version != 2 or length > len(content):
            raise ValueError(f"version {version}, {len(content)} of {length} bytes")
        document = pygltflib.GLTF2.load_from_bytes(content)
    else:
        document = pygltflib.GLTF2.gltf_from_json(json.dumps(json.loads(content)))
    if document is None or not str(document.asset.version).startswith("2"):
        raise ValueError("it states no version 2")
    lacking = [
        each for each in document.extensionsRequired or ()
        if each not in READ and not each.startswith(SHADING)
    ]  # fmt: skip
    if lacking:
        raise InputError(
            f"model={name} requires {', '.join(lacking)}, which is not read; export it without "
            "compression and extensions"
        )
    return document


def _model(name: str, document: Any, buffers: Buffers, sides: Sides) -> Model:
    looks: dict[int | None, Look] = {}
    used: dict[int | None, int] = {}
    notes: dict[str, None] = {}
    surfaces = []
    worlds = dict(_worlds(document))
    for number, world in worlds.items():
        node = document.nodes[number]
        if node.mesh is None:
            continue
        bones = None if node.skin is None else _bones(document, node.skin, worlds, buffers)
        for primitive in document.meshes[node.mesh].primitives:
            if primitive.mode not in MODES:
                notes["points and lines"] = None
                continue
            key = primitive.material
            if key not in looks:
                looks[key] = read_look(document, key, buffers)
            notes |= dict.fromkeys(looks[key].notes)
            if looks[key].opacity < looks[key].cutoff:
                notes["transparent surfaces"] = None
                continue
            part = used.setdefault(key, len(used))
            placing = world[None] if bones is None else _moved_by(bones, primitive, buffers)
            surfaces.append(_surface(primitive, looks[key], placing, buffers, part, sides))
    surfaces = [surface for surface in surfaces if len(surface.triangles)]
    if not surfaces:
        raise InputError(f"model={name} has no triangles that can be seen; name another")
    materials = tuple(looks[key].material for key in used)
    surface = join(_alike(surfaces))
    if not np.isfinite(surface.vertices).all():
        raise ValueError("positions that are not finite")
    return Model(surface, materials, tuple(notes), str(document.asset.copyright or ""))


def _alike(surfaces: list[TriangleMesh]) -> list[TriangleMesh]:
    """All with vertex colours, or none."""
    if all(surface.colours is None for surface in surfaces):
        return surfaces
    return [
        surface if surface.colours is not None
        else dataclasses.replace(surface, colours=np.ones((len(surface.vertices), 3), np.float32))
        for surface in surfaces
    ]  # fmt: skip


def _worlds(document: Any) -> Iterator[tuple[int, np.ndarray]]:
    """Numbers of the default scene's nodes and their world transforms [4, 4]."""
    if document.scenes:
        first = document.scenes[document.scene or 0].nodes or []
    else:
        below = {child for node in document.nodes for child in node.children or []}
        first = [number for number in range(len(document.nodes)) if number not in below]
    waiting = [(number, np.eye(4), 0) for number in reversed(first)]
    while waiting:
        number, above, depth = waiting.pop()
        if depth > DEEPEST:
            raise ValueError(f"nodes lie deeper than {DEEPEST} below one another, or in a ring")
        node = document.nodes[number]
        world = above @ _transform(node)
        yield number, world
        waiting += [(child, world, depth + 1) for child in reversed(node.children or [])]


def _transform(node: Any) -> np.ndarray:
    """[4, 4] of a node: its matrix, or translation, rotation (x, y, z, w) and scale."""
    if node.matrix:
        return np.array(node.matrix, np.float64).reshape(4, 4).T
    x, y, z, w = np.array(node.rotation or (0, 0, 0, 1), np.float64)
    length = x * x + y * y + z * z + w * w
    if not length > 0:
        raise ValueError("a node's rotation is 0")
    s = 2.0 / length
    out = np.eye(4)
    out[:3, :3] = [
        [1 - s * (y * y + z * z), s * (x * y - z * w), s * (x * z + y * w)],
        [s * (x * y + z * w), 1 - s * (x * x + z * z), s * (y * z - x * w)],
        [s * (x * z - y * w), s * (y * z + x * w), 1 - s * (x * x + y * y)],
    ]
    out[:3, :3] *= np.array(node.scale or (1, 1, 1), np.float64)
    out[:3, 3] = node.translation or (0, 0, 0)
    return out


def _bones(document: Any, skin: int, worlds: dict[int, np.ndarray], buffers: Buffers) -> np.ndarray:
    """[joint, 4, 4] that move vertices from where they were bound to where the joints are."""
    entry = document.skins[skin]
    joints = np.stack([worlds[number] for number in entry.joints])
    if entry.inverseBindMatrices is None:
        return joints
    inverse = buffers.array(entry.inverseBindMatrices).reshape(-1, 4, 4).transpose(0, 2, 1)
    return joints @ inverse[: len(joints)]


def _moved_by(bones: np.ndarray, primitive: Any, buffers: Buffers) -> np.ndarray:
    """[vertex, 4, 4]: the mean of the bones that move a vertex, by its weights."""
    joints = buffers.array(primitive.attributes.JOINTS_0).astype(np.int64)
    weights = buffers.array(primitive.attributes.WEIGHTS_0).astype(np.float64)
    total = weights.sum(axis=1, keepdims=True)
    if not (total > 0).all():
        raise ValueError("a vertex that no joint moves")
    return np.einsum("vk,vkij->vij", weights / total, bones[joints])


def _surface(
    primitive: Any, look: Look, placing: np.ndarray, buffers: Buffers, part: int, sides: Sides
) -> TriangleMesh:
    """A primitive in the world, without its degenerate triangles; `placing` [1 or vertex, 4, 4]."""
    attributes = primitive.attributes
    position = buffers.array(attributes.POSITION).astype(np.float64)
    turn = placing[:, :3, :3]
    position = (turn @ position[..., None])[..., 0] + placing[:, :3, 3]
    corners = _corners(primitive, buffers, len(position))
    if np.median(np.linalg.det(turn)) < 0:  # a mirror turns triangles inside out
        corners = corners[:, ::-1]
    first, second, third = (position[corners[:, n]] for n in range(3))
    face = np.cross(second - first, third - first)
    area = np.linalg.norm(face, axis=1)
    kept = area > 1e-12 * max(float(area.max(initial=0.0)), 1e-12)
    corners, face = corners[kept], (face[kept] / area[kept, None])[:, None]
    normals = np.broadcast_to(face, (len(corners), 3, 3))
    if attributes.NORMAL is not None:
        given = buffers.array(attributes.NORMAL)[:, None]
        given = (given @ np.linalg.pinv(turn))[:, 0]
        length = np.linalg.norm(given, axis=1, keepdims=True)
        given = (given / np.maximum(length, 1e-12))[corners]
        normals = np.where(length[corners] > 1e-9, given, normals)
    columns = [position[corners], normals, _places(attributes, look, buffers, corners)]
    if attributes.COLOR_0 is not None:
        columns.append(to_srgb(buffers.array(attributes.COLOR_0)[:, :3])[corners])
    rows = np.concatenate(columns, axis=2).astype(np.float32)
    surface = _soup(_cut_away(rows, look) if look.alpha is not None else rows, part)
    return surface.from_both_sides() if sides == "both" or look.two_sided else surface


def _corners(primitive: Any, buffers: Buffers, count: int) -> np.ndarray:
    """Numbers of vertices [triangle, 3] of a list, strip or fan."""
    index = np.arange(count)
    if primitive.indices is not None:
        index = buffers.array(primitive.indices)[:, 0].astype(np.int64)
        if len(index) and not 0 <= index.min() <= index.max() < count:
            raise ValueError(f"an index is not below {count}")
    if MODES[primitive.mode] == "triangles":
        return index[: len(index) // 3 * 3].reshape(-1, 3)
    number = np.arange(max(len(index) - 2, 0))
    if MODES[primitive.mode] == "fans":
        order = np.stack([number + 1, number + 2, np.zeros_like(number)], axis=1)
    else:
        odd = number % 2
        order = np.stack([number, number + 1 + odd, number + 2 - odd], axis=1)
    return index[order]


def _places(attributes: Any, look: Look, buffers: Buffers, corners: np.ndarray) -> np.ndarray:
    """Texture coordinates [triangle, 3, 2] to the right and up; 0 without any."""
    accessor = getattr(attributes, f"TEXCOORD_{look.coordinates}", None)
    if accessor is None:
        return np.zeros((*corners.shape, 2))
    given = buffers.array(accessor)[:, :2] @ look.transform[:, :2].T + look.transform[:, 2]
    return (given * [1.0, -1.0])[corners]


def _cut_away(rows: np.ndarray, look: Look) -> np.ndarray:
    """Triangles [t, 3, column] without what the texture's alpha leaves out.

    Those on the border are subdivided; the smallest are kept or not as a whole.
    """
    out = []
    for level in range(CUT_LEVELS + 1):
        places = np.einsum("pc,tck->tpk", PLACES, rows[..., 6:8])
        opaque = _alpha_at(look, places) >= look.cutoff
        whole = opaque.all(axis=1)
        mixed = opaque.any(axis=1) & ~whole
        if level == CUT_LEVELS:
            whole, mixed = opaque.mean(axis=1) >= 0.5, np.zeros_like(mixed)
        out.append(rows[whole])
        rows = subdivide(rows[mixed]) if mixed.any() else rows[:0]
    return np.concatenate(out)


def _alpha_at(look: Look, places: np.ndarray) -> np.ndarray:
    """Opacity of the nearest texels at coordinates [..., 2] to the right and up."""
    assert look.alpha is not None
    height, width = look.alpha.shape
    column = np.floor(places[..., 0] * width).astype(np.int64) % width
    row = np.floor(-places[..., 1] * height).astype(np.int64) % height
    return look.alpha[row, column] * look.opacity


def _soup(rows: np.ndarray, part: int) -> TriangleMesh:
    """Triangles without shared vertices of rows [triangle, 3, 8 or 11]."""
    flat = rows.reshape(-1, rows.shape[-1])
    normals = flat[:, 3:6]
    length = np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    return TriangleMesh(
        flat[:, :3], normals / length, np.arange(len(flat), dtype=np.int32).reshape(-1, 3),
        np.full(len(rows), part, np.int32), flat[:, 6:8],
        flat[:, 8:] if flat.shape[1] > 8 else None,
    )  # fmt: skip
