"""Binary glTF with KHR_gaussian_splatting: layout, reading, and what is refused."""

import json
import struct

import jax.numpy as jnp
import numpy as np
import pytest

from tests.fast.export.test_spz import gaussians
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.geometry.poses import PoseNormalisation
from tttlrm_jax.core.geometry.rotations import rotation_from_unit_quaternion
from tttlrm_jax.core.geometry.similarity import transform_gaussians
from tttlrm_jax.core.geometry.spherical_harmonics import evaluate_sh
from tttlrm_jax.core.types import Gaussians
from tttlrm_jax.export.splats.formats import read_splats, write_splats
from tttlrm_jax.export.splats.frames import turned_about_x
from tttlrm_jax.export.splats.gltf import write_glb

FIELDS = ("mean", "sh", "log_scale", "quaternion", "opacity_logit")
PREFIX = "KHR_gaussian_splatting:"


def chunks(path):
    """The text of a file, and its array."""
    content = path.read_bytes()
    magic, version, total, length, kind = struct.unpack("<4sIII4s", content[:20])
    assert (magic, version, total, kind) == (b"glTF", 2, len(content), b"JSON")
    document = json.loads(content[20 : 20 + length])
    size, kind = struct.unpack("<I4s", content[20 + length : 28 + length])
    assert (length % 4, size % 4, kind) == (0, 0, b"BIN\0")
    assert 28 + length + size == total
    return document, content[28 + length :]


def rebuilt(path, document, binary):
    """A file of another text and array."""
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    head = struct.pack("<4sIII4s", b"glTF", 2, 28 + len(text) + len(binary), len(text), b"JSON")
    path.write_bytes(head + text + struct.pack("<I4s", len(binary), b"BIN\0") + binary)


def values(document, binary, name):
    accessor = document["accessors"][document["meshes"][0]["primitives"][0]["attributes"][name]]
    view = document["bufferViews"][accessor["bufferView"]]
    part = binary[view["byteOffset"] : view["byteOffset"] + view["byteLength"]]
    width = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}[accessor["type"]]
    kind = {5126: "<f4", 5121: "u1"}[accessor["componentType"]]
    return np.frombuffer(part, kind).reshape(accessor["count"], width)


@pytest.mark.parametrize("degree", range(4))
def test_what_is_written_is_read(tmp_path, degree):
    """To rounding: nothing is quantised."""
    given = gaussians(degree=degree)
    assert write_glb(tmp_path / "scene.glb", given).num_written == 30
    back = read_splats(tmp_path / "scene.glb")
    for field in FIELDS:
        np.testing.assert_allclose(getattr(back, field), getattr(given, field), atol=2e-5)
    np.testing.assert_array_equal(back.sh, given.sh)
    np.testing.assert_array_equal(back.mean, given.mean)


def test_the_file_is_as_the_extension_says(tmp_path):
    given = gaussians(count=4, degree=1)
    write_glb(tmp_path / "scene.glb", given, offset=np.array([10.0, 20.0, 30.0]))
    document, binary = chunks(tmp_path / "scene.glb")
    assert document["asset"]["version"] == "2.0"
    assert document["extensionsUsed"] == ["KHR_gaussian_splatting"]
    primitive = document["meshes"][0]["primitives"][0]
    assert primitive["mode"] == 0
    assert primitive["extensions"]["KHR_gaussian_splatting"] == {
        "kernel": "ellipse", "colorSpace": "srgb_rec709_display", "projection": "perspective",
        "sortingMethod": "cameraDistance",
    }  # fmt: skip
    names = ["SH_DEGREE_0_COEF_0", *(f"SH_DEGREE_1_COEF_{n}" for n in range(3))]
    assert list(primitive["attributes"]) == [
        "POSITION", *(PREFIX + name for name in ("ROTATION", "SCALE", "OPACITY", *names)), "COLOR_0"
    ]  # fmt: skip
    turn = np.float32([1, -1, -1])
    position = values(document, binary, "POSITION")
    np.testing.assert_array_equal(position, given.mean * turn)
    first = document["accessors"][0]
    np.testing.assert_array_equal([first["min"], first["max"]], [position.min(0), position.max(0)])
    rotation = values(document, binary, PREFIX + "ROTATION")
    np.testing.assert_allclose(rotation[:, 3], given.quaternion[:, 0], atol=1e-6)
    np.testing.assert_allclose(rotation[:, :3], given.quaternion[:, 1:] * turn, atol=1e-6)
    scale = values(document, binary, PREFIX + "SCALE")
    np.testing.assert_allclose(scale, np.exp(given.log_scale), rtol=1e-6)
    alpha = values(document, binary, PREFIX + "OPACITY")[:, 0]
    np.testing.assert_allclose(alpha, 1 / (1 + np.exp(-given.opacity_logit)), rtol=1e-6)
    for number, (name, sign) in enumerate(zip(names, (1, -1, -1, 1), strict=True)):
        stored = values(document, binary, PREFIX + name)
        np.testing.assert_array_equal(stored, given.sh[:, number] * sign)
    colour = values(document, binary, "COLOR_0")
    srgb = (0.5 + 0.28209479 * given.sh[:, 0]).clip(0.05, 1)  # where the curve is a power
    np.testing.assert_allclose(colour[:, :3] / 255, ((srgb + 0.055) / 1.055) ** 2.4, atol=0.003)
    np.testing.assert_allclose(colour[:, 3] / 255, alpha, atol=0.003)
    assert document["nodes"][0]["extras"] == {"offset": [10, -20, -30]}
    sizes = [view["byteLength"] for view in document["bufferViews"]]
    assert document["buffers"] == [{"byteLength": len(binary)}]
    assert sum(sizes) == len(binary)


def test_half_a_turn_shows_the_same():
    """Colours from turned directions, and turned axes."""
    given = gaussians(degree=4)
    turned = turned_about_x(given)
    direction = np.tile(np.float32([0.3, -0.5, 0.81]), (30, 1))
    seen, wanted = (
        evaluate_sh(jnp.asarray(each.sh), jnp.asarray(direction * np.float32(turn)))
        for each, turn in ((turned, [1, -1, -1]), (given, [1, 1, 1]))
    )
    np.testing.assert_allclose(seen, wanted, atol=1e-5)
    there, here = (rotation_from_unit_quaternion(each.quaternion) for each in (turned, given))
    np.testing.assert_allclose(there, np.diag([1, -1, -1]) @ here @ np.diag([1, -1, -1]), atol=1e-6)
    again = turned_about_x(turned)
    assert all(np.array_equal(getattr(again, f), getattr(given, f)) for f in FIELDS)


def test_files_of_other_tools_are_read(tmp_path):
    """Whole numbers, interleaved; two primitives of unlike degree, nodes that turn and scale."""
    given = gaussians(count=6, degree=1)
    path = tmp_path / "scene.glb"
    write_glb(path, given)
    document, binary = chunks(path)
    mesh, count = document["meshes"][0]["primitives"][0], 6
    table = np.zeros(count, [("q", "<i2", 4), ("s", "<u2", 3), ("a", "u1"), ("pad", "u1")])
    table["q"] = np.rint(32767 * values(document, binary, PREFIX + "ROTATION"))
    table["s"] = np.rint(65535 * values(document, binary, PREFIX + "SCALE"))
    table["a"] = np.rint(255 * values(document, binary, PREFIX + "OPACITY")[:, 0])
    document["bufferViews"].append(
        {"buffer": 0, "byteOffset": len(binary), "byteLength": 96, "byteStride": 16}
    )
    kinds = (
        ("ROTATION", 5122, "VEC4", 0),
        ("SCALE", 5123, "VEC3", 8),
        ("OPACITY", 5121, "SCALAR", 14),
    )
    plain = {"POSITION": 0, PREFIX + "SH_DEGREE_0_COEF_0": 4}
    for name, kind, width, start in kinds:
        plain[PREFIX + name] = len(document["accessors"])
        document["accessors"].append({
            "bufferView": len(document["bufferViews"]) - 1, "byteOffset": start, "normalized": True,
            "componentType": kind, "count": count, "type": width,
        })  # fmt: skip
    document["meshes"].append({"primitives": [{**mesh, "attributes": plain}]})
    half = float(np.sqrt(0.5))
    document["nodes"] = [
        {"mesh": 0}, {"children": [2], "scale": [2, 2, 2], "translation": [1, 2, 3]},
        {"mesh": 1, "rotation": [0, half, 0, half]},
    ]  # fmt: skip
    document["scenes"] = [{"nodes": [0, 1]}]
    rebuilt(path, document, binary + table.tobytes())
    back = read_splats(path)
    assert back.sh.shape == (12, 4, 3)
    placed = turned_about_x(given).replace(sh=given.sh[:, :1])
    matrix = np.array([[0, 0, 1], [0, 1, 0], [-1, 0, 0]])
    moved = PoseNormalisation(rotation=matrix, translation=np.array([1, 2, 3]), scale=2.0)
    expected = {0: turned_about_x(transform_gaussians(placed, moved)), 6: given}
    order = (0, 6) if abs(back.mean[0, 0] - expected[0].mean[0, 0]) < 1e-4 else (6, 0)
    for start, index in zip(order, (0, 6), strict=True):
        wanted = expected[index]
        part = {f: np.asarray(getattr(back, f))[start : start + 6] for f in FIELDS}
        np.testing.assert_allclose(part["mean"], wanted.mean, atol=1e-5)
        np.testing.assert_allclose(part["log_scale"], wanted.log_scale, atol=2e-3)
        turn, its = (
            rotation_from_unit_quaternion(q) for q in (part["quaternion"], wanted.quaternion)
        )
        np.testing.assert_allclose(turn, its, atol=2e-4)
        np.testing.assert_allclose(part["sh"][:, : wanted.sh.shape[1]], wanted.sh, atol=1e-6)


def test_what_is_refused(tmp_path):
    path, given = tmp_path / "scene.glb", gaussians(count=3, degree=1)
    with pytest.raises(InputError, match=r"up to degree 3, not 4; write \.ply"):
        write_splats(path, gaussians(degree=4))
    with pytest.raises(InputError, match="no Gaussian is left to write"):
        write_splats(path, Gaussians(*(getattr(given, f)[:0] for f in FIELDS)))
    assert not path.exists()
    write_splats(path, given)
    content, (document, binary) = path.read_bytes(), chunks(path)
    path.write_bytes(content[:-8])
    with pytest.raises(InputError, match="lacks a part of its"):
        read_splats(path)
    attributes = document["meshes"][0]["primitives"][0]["attributes"]
    extension = document["meshes"][0]["primitives"][0]["extensions"]["KHR_gaussian_splatting"]

    def without(change, undo):
        change()
        rebuilt(path, document, binary)
        undo()
        return path

    cases = [
        (lambda: document["nodes"][0].update(scale=[1, 2, 1]),
         lambda: document["nodes"][0].pop("scale"), "stretches Gaussians unevenly"),
        (lambda: document["nodes"][0].update(matrix=[-1, *[0] * 4, 1, *[0] * 4, 1, *[0] * 4, 1]),
         lambda: document["nodes"][0].pop("matrix"), "shears or mirrors"),
        (lambda: document["nodes"][0].update(children=[0]),
         lambda: document["nodes"][0].pop("children"), "nodes below themselves"),
        (lambda: extension.update(extensions={"KHR_gaussian_splatting_compression_spz_2": {}}),
         lambda: extension.pop("extensions"), "compression_spz_2.*not read"),
        (lambda: extension.update(kernel="box"), lambda: extension.update(kernel="ellipse"), "box"),
        (lambda: attributes.pop(PREFIX + "SCALE"), lambda: attributes.update({PREFIX + "SCALE": 2}),
         "without KHR_gaussian_splatting:SCALE"),
        (lambda: document["accessors"][2].update(count=999),
         lambda: document["accessors"][2].update(count=3), "reaches beyond its array"),
        (lambda: document["accessors"][2].update(type="MAT9"),
         lambda: document["accessors"][2].update(type="VEC3"), "breaks the rules of glTF"),
    ]  # fmt: skip
    for change, undo, message in cases:
        with pytest.raises(InputError, match=message):
            read_splats(without(change, undo))
    assert len(read_splats(without(dict, dict)).mean) == 3
    document["meshes"][0]["primitives"][0]["extensions"] = {}
    rebuilt(path, document, binary)
    with pytest.raises(InputError, match="holds no Gaussians"):
        read_splats(path)
