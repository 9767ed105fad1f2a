"""glTF models: made files are read as what was put in, and bad ones are named."""

import contextlib
import io
import json
import sys

import numpy as np
import pytest
import trimesh
from PIL import Image

from tests.gltf import CUBE, CUBE_FACES, QUAD, QUAD_FACES, QUAD_PLACES, Document, cube
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.procedural.surfaces.gltf import read_gltf
from tttlrm_jax.procedural.surfaces.gltf_materials import to_linear, to_srgb

TURN = [0.0, 0.38268343, 0.0, 0.92387953]  # 45 degrees about y
MATRIX = [0, 2, 0, 0, -1, 0, 0, 0, 0, 0, 1, 0, 3, 0, 0, 1]  # by columns


def read(content, sides="material", **files):
    return read_gltf("a.glb", ({"a.glb": content} | files).__getitem__, sides)


def png(pixels):
    out = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).save(out, "PNG")
    return out.getvalue()


def area_of(model):
    corner = model.surface.vertices[model.surface.triangles].astype(np.float64)
    sides = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    return 0.5 * np.linalg.norm(sides, axis=1).sum()


def test_nodes_are_placed_as_another_library_places_them():
    """Nested transforms, matrices and mirrors; outsides stay outside."""
    document = Document()
    document.mesh(CUBE, CUBE_FACES, translation=[1, 2, 3], rotation=TURN, scale=[1, 2, 0.5])
    document.mesh(CUBE, CUBE_FACES, matrix=MATRIX)
    document.mesh(CUBE, CUBE_FACES, scale=[-1, 1, 1], translation=[0, 0, 9])
    document.json["nodes"].append({"translation": [0, 5, 0], "children": [0, 1], "rotation": TURN})
    document.json["scenes"][0]["nodes"] = [2, 3]
    content = document.glb()
    surface = read(content).surface
    other = trimesh.load_scene(io.BytesIO(content), file_type="glb").to_mesh()
    ours = surface.vertices[surface.triangles]
    theirs = other.vertices[other.faces]
    assert ours.shape == (36, 3, 3)

    def ordered(corners):
        middle = np.round(corners.mean(axis=1), 4)
        return middle[np.lexsort(middle.T)]

    np.testing.assert_allclose(ordered(ours), ordered(theirs), atol=1e-3)
    volume = np.einsum("ti,ti->t", ours[:, 0], np.cross(ours[:, 1], ours[:, 2])).sum() / 6
    assert volume == pytest.approx(8 * (1 + 2 + 1), rel=1e-4)  # below 0 for what is inside out
    face = np.cross(ours[:, 1] - ours[:, 0], ours[:, 2] - ours[:, 0])
    normals = surface.normals[surface.triangles[:, 0]]
    assert (np.einsum("ti,ti->t", face, normals) > 0).all()


def test_normals_are_turned_against_stretching():
    slope = np.array([[0, 0, 0], [1, 1, 0], [0, 0, 1]], np.float32)
    document = Document()
    given = np.array([[1, -1, 0]] * 3, np.float32) / np.float32(2**0.5)
    document.mesh(slope, None, attributes={"NORMAL": document.accessor(given)}, scale=[1, 4, 1])
    surface = read(document.glb()).surface
    np.testing.assert_allclose(17**0.5 * surface.normals, [[4, -1, 0]] * 3, atol=1e-5)


@pytest.mark.parametrize(
    ("mode", "index"),
    [(4, [0, 1, 2, 0, 2, 3]), (5, [1, 2, 0, 3]), (6, [0, 1, 2, 3]), (6, None)],
)
def test_lists_strips_and_fans_face_the_same_way(mode, index):
    document = Document()
    document.mesh(QUAD, None if index is None else np.array(index, np.uint32), {"mode": mode})
    model = read(document.glb())
    assert area_of(model) == pytest.approx(1.0)
    assert (model.surface.normals == [0, 0, 1]).all()


def test_interleaved_normalised_and_sparse_accessors():
    document = Document()
    rows = np.zeros(4, [("p", "<f4", 3), ("uv", "<u2", 2)])
    rows["p"], rows["uv"] = QUAD, np.rint(65535 * QUAD_PLACES)
    view = document.view(rows.tobytes(), byteStride=16)
    index = document.view(np.array([2], np.uint8).tobytes())
    value = document.view(np.array([[2, 2, 0]], np.float32).tobytes())
    document.json["accessors"] += [
        {"bufferView": view, "count": 4, "componentType": 5126, "type": "VEC3", "sparse": {
            "count": 1, "indices": {"bufferView": index, "componentType": 5121},
            "values": {"bufferView": value}}},
        {"bufferView": view, "byteOffset": 12, "count": 4, "componentType": 5123, "type": "VEC2",
         "normalized": True},
    ]  # fmt: skip
    primitive = {"attributes": {"POSITION": 0, "TEXCOORD_0": 1}, "mode": 6}
    document.json |= {"meshes": [{"primitives": [primitive]}], "nodes": [{"mesh": 0}],
                      "scenes": [{"nodes": [0]}]}  # fmt: skip
    surface = read(document.glb()).surface
    assert surface.vertices.max(axis=0).tolist() == [2, 2, 0]
    corner = surface.coordinates[np.flatnonzero((surface.vertices == [1, 0, 0]).all(axis=1))]
    np.testing.assert_allclose(corner, [[1, -1]] * len(corner))


def textured(pixels, material=None, extension=None, **sampler):
    """A quad with a texture, and its colour at the middle of each quarter, rows from the top."""
    document = Document()
    image = document.view(png(pixels))
    texture = {"index": 0} | ({} if extension is None else {
        "extensions": {"KHR_texture_transform": extension}})  # fmt: skip
    material = {"pbrMetallicRoughness": {}} | (material or {})
    material["pbrMetallicRoughness"] = {"baseColorTexture": texture} | material[
        "pbrMetallicRoughness"
    ]
    document.json |= {
        "images": [{"bufferView": image, "mimeType": "image/png"}], "samplers": [sampler],
        "textures": [{"source": 0, "sampler": 0}], "materials": [material],
    }  # fmt: skip
    places = {"TEXCOORD_0": document.accessor(QUAD_PLACES)}
    document.mesh(QUAD, QUAD_FACES, {"material": 0}, places)
    return document


def colours_of(model):
    """sRGB [row, column, 3] at the middle of a quad's quarters, the upper row first."""
    surface = model.surface
    out = np.zeros((2, 2, 3))
    corner = surface.vertices[surface.triangles][..., :2].astype(np.float64)
    for row, column in np.ndindex(2, 2):
        point = 0.261 + 0.5 * column, 0.757 - 0.5 * row
        for triangle, places in zip(corner, surface.coordinates[surface.triangles], strict=True):
            share = np.linalg.solve(np.vstack([triangle.T, np.ones(3)]), [*point, 1.0])
            if (share >= 0).all():
                place = (share @ places).astype(np.float32)[:, None]
                up = np.zeros((3, 1), np.float32)
                out[row, column] = model.materials[0].albedo(up, up, place)[:, 0]
    return out


QUARTERS = np.kron(np.array([[1, 2], [3, 4]]), np.ones((8, 8)))[..., None] * [50, 20, 0] + [0, 0, 9]


@pytest.mark.parametrize(
    ("extension", "order"),
    [
        (None, [[1, 2], [3, 4]]),
        ({"offset": [0.5, 0.0]}, [[2, 1], [4, 3]]),
        ({"scale": [1.0, -1.0]}, [[3, 4], [1, 2]]),
        ({"rotation": np.pi / 2}, [[3, 1], [4, 2]]),
        ({"scale": [0.5, 0.5], "offset": [0.5, 0.5]}, [[4, 4], [4, 4]]),
    ],
)
def test_textures_lie_as_their_transform_says(extension, order):
    """A turn of the coordinates counter-clockwise is one of the picture clockwise about its upper
    left corner."""
    colours = 255 * colours_of(read(textured(QUARTERS, extension=extension).glb()))
    number = np.array(order)[..., None]
    np.testing.assert_allclose(colours, number * [50, 20, 0] + [0, 0, 9], atol=0.51)


def test_mirrored_tiles_and_factors_of_linear_light():
    extension = {"offset": [1.0, 0.0]}
    content = textured(QUARTERS, extension=extension, wrapS=33648).glb()
    colours = 255 * colours_of(read(content))
    np.testing.assert_allclose(colours[..., 0], [[100, 50], [200, 150]], atol=0.51)
    factor = {"pbrMetallicRoughness": {"baseColorFactor": [0.5, 1, 1, 1]}}
    colours = colours_of(read(textured(QUARTERS, factor).glb()))
    expected = to_srgb(0.5 * to_linear(np.array([[50, 100], [150, 200]]) / 255))
    np.testing.assert_allclose(colours[..., 0], expected, atol=2e-3)
    model = read(cube((0.2, 0.5, 0.8, 1.0)))
    np.testing.assert_allclose(
        255 * model.materials[0].picture[0, 0], [123.6, 187.5, 231.1], atol=0.1
    )


@pytest.mark.parametrize("kind", ["f4", "u1", "u2"])
def test_vertex_colours_multiply_the_material(kind):
    document = Document(materials=[{"pbrMetallicRoughness": {"baseColorFactor": [1, 0, 1, 1]}}])
    most = 1 if kind == "f4" else np.iinfo(kind).max
    given = (np.array([[1, 1, 1, 1], [1, 0, 0, 1], [0, 1, 0, 1], [0, 0, 1, 1]]) * most).astype(kind)
    colours = document.accessor(given, normalized=kind != "f4")
    document.mesh(QUAD, QUAD_FACES, {"material": 0}, {"COLOR_0": colours})
    document.mesh(QUAD + 2, QUAD_FACES)
    surface = read(document.glb()).surface
    at = {tuple(v): tuple(c) for v, c in zip(surface.vertices, surface.colours, strict=True)}
    for place, colour in (
        ((0, 0, 0), (1, 1, 1)), ((2, 2, 2), (1, 1, 1)), ((1, 0, 0), (1, 0, 0)),
        ((0, 1, 0), (0, 0, 1)),
    ):  # fmt: skip
        np.testing.assert_allclose(at[place], colour, atol=1e-6)


def half_clear():
    pixels = np.full((64, 64, 4), 255)
    pixels[:, 32:, 3] = 60
    return pixels


@pytest.mark.parametrize(
    ("material", "area"),
    [
        ({}, 1.0),
        ({"alphaMode": "MASK"}, 0.5),
        ({"alphaMode": "MASK", "alphaCutoff": 0.1}, 1.0),
        ({"alphaMode": "BLEND"}, 0.5),
        ({"alphaMode": "BLEND", "pbrMetallicRoughness": {"baseColorFactor": [1, 1, 1, 0.2]}}, None),
    ],
)
def test_what_is_transparent_is_cut_away(material, area):
    content = textured(half_clear(), material).glb()
    if area is None:
        with pytest.raises(InputError, match="no triangles that can be seen"):
            read(content)
    else:
        assert area_of(read(content)) == pytest.approx(area, abs=0.03)


def test_sides_are_those_of_the_material_or_both():
    one, two = Document(), Document(materials=[{"doubleSided": True}])
    one.mesh(QUAD, QUAD_FACES)
    two.mesh(QUAD, QUAD_FACES, {"material": 0})
    counts = [len(read(d.glb(), sides).surface.triangles)
              for d in (one, two) for sides in ("material", "both")]  # fmt: skip
    assert counts == [2, 4, 4, 4]


def test_text_files_have_buffers_and_pictures_beside_them():
    document = textured(QUARTERS)
    document.json["buffers"] = [{"byteLength": len(document.content), "uri": "a%20b.bin"}]
    document.json["images"] = [{"uri": "p.png"}]
    files = {
        "in/m.gltf": json.dumps(document.json).encode(), "in/a b.bin": document.content,
        "in/p.png": png(QUARTERS),
    }  # fmt: skip
    model = read_gltf("in/m.gltf", files.__getitem__)
    np.testing.assert_allclose(255 * colours_of(model)[0, 0], [50, 20, 9], atol=0.51)
    del files["in/a b.bin"]
    with pytest.raises(InputError, match=r"model=in/m\.gltf needs a b\.bin, which is not there"):
        read_gltf("in/m.gltf", files.__getitem__)


def test_skeletons_stand_as_their_nodes_say():
    """The upper half of a quad follows a joint that was bound at (0, 0.5) and has moved by 2 along
    x and turned a quarter; the node of the mesh does not count."""
    document = Document()
    inverse = np.tile(np.eye(4, dtype=np.float32), (2, 1, 1))
    inverse[1, 1, 3] = -0.5
    joints = np.array([[0, 0, 0, 0]] * 2 + [[1, 0, 0, 0]] * 2, np.uint8)
    weights = np.array([[255, 0, 0, 0]] * 4, np.uint8)
    attributes = {
        "JOINTS_0": document.accessor(joints),
        "WEIGHTS_0": document.accessor(weights, normalized=True),
    }
    bound = document.accessor(inverse.transpose(0, 2, 1).reshape(2, 16))
    document.mesh(QUAD, QUAD_FACES, attributes=attributes, skin=0, translation=[9, 9, 9])
    turn = [0, 0, 2**-0.5, 2**-0.5]
    document.json["nodes"] += [{"children": [2]}, {"translation": [2, 0.5, 0], "rotation": turn}]
    document.json["scenes"][0]["nodes"] = [0, 1]
    document.json["skins"] = [{"joints": [1, 2], "inverseBindMatrices": bound}]
    surface = read(document.glb()).surface
    places = {tuple(np.round(place, 5).tolist()) for place in surface.vertices}
    assert places == {(0, 0, 0), (1, 0, 0), (1.5, 1.5, 0), (1.5, 0.5, 0)}
    document.json["skins"][0]["joints"] = [1]
    with pytest.raises(InputError, match="IndexError"):
        read(document.glb())


def changed(**keys):
    document = Document()
    document.mesh(QUAD, QUAD_FACES)
    document.json |= keys
    return document


def with_index(number):
    document = Document()
    document.mesh(QUAD, np.array([0, 1, number], np.uint8))
    return document


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (changed(extensionsRequired=["KHR_draco_mesh_compression"]).glb(), "requires KHR_draco"),
        (changed(extensionsRequired=["EXT_meshopt_compression"]).glb(), "requires EXT_meshopt"),
        (changed(nodes=[{"mesh": 0, "children": [0]}]).glb(), "or in a ring"),
        (changed(meshes=[]).glb(), "IndexError"),
        (changed(accessors=[]).glb(), "is no glTF 2.0 that can be read"),
        (changed(asset={"version": "1.0"}).glb(), "it states no version 2"),
        (changed(scenes=[{"nodes": []}]).glb(), "no triangles that can be seen"),
        (with_index(9).glb(), "an index is not below 4"),
        (cube()[:200], "200 of"),
        (b"glTF", "is no glTF 2.0 that can be read"),
        (b"{", "is no glTF 2.0 that can be read"),
        (b"", "is no glTF 2.0 that can be read"),
    ],
)
def test_bad_models_are_named(content, message):
    with pytest.raises(InputError, match=message) as error:
        read(content)
    assert "model=a.glb" in str(error.value)


def test_damaged_files_never_end_in_a_traceback():
    """Any byte of the structure may be another one: a model or one sentence comes out."""
    whole, rng = textured(QUARTERS).glb(), np.random.default_rng(0)
    for _ in range(60):
        content = bytearray(whole)
        for place in rng.integers(0, len(content), 3):
            content[place] = rng.integers(256)
        with contextlib.suppress(InputError):
            read(bytes(content))


def test_without_the_extra_one_sentence_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "pygltflib", None)
    with pytest.raises(InputError, match="needs the extra `objects`; pip install"):
        read(cube())
