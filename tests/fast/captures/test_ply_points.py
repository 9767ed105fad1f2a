"""Points of PLY files, in the forms that programs write, and in nerfstudio's frame."""

import numpy as np
import pytest

from tttlrm_jax.api.fitting import chosen_frames
from tttlrm_jax.api.request import Request
from tttlrm_jax.api.scenes import pose_scene
from tttlrm_jax.captures.capture import read_capture
from tttlrm_jax.captures.colmap.points import read_points
from tttlrm_jax.config import RunConfig
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.export.cameras.colmap_points import points_of

POSITIONS = np.array([[0.5, -1.25, 3.0], [1e3, 2.0, -7.5], [0.0, 0.25, 1.0]])
COLOURS = np.array([[255, 0, 51], [10, 20, 30], [1, 2, 3]])
PLACE = [f"property float {name}" for name in "xyz"]
RGB = [f"property uint8 {name}" for name in ("red", "green", "blue")]


def ascii_ply(positions, colours):
    """As nerfstudio's ns-process-data writes it."""
    head = ["ply", "format ascii 1.0", f"element vertex {len(positions)}", *PLACE, *RGB]
    rows = [
        " ".join([*(f"{value:8f}" for value in place), *map(str, colour)])
        for place, colour in zip(positions, colours, strict=True)
    ]
    return "\n".join([*head, "end_header", *rows, ""]).encode()


def binary_ply(order, number, shade, more="", after=b""):
    """Doubles or floats with normals, and colours of some type."""
    kinds = {"f4": "float", "f8": "double", "u1": "uchar", "u2": "ushort"}
    places = [(name, order + number) for name in ("x", "y", "z", "nx", "ny", "nz")]
    columns = [*places, *((name, order + shade) for name in ("red", "green", "blue"))]
    table = np.zeros(len(POSITIONS), columns)
    for n, name in enumerate("xyz"):
        table[name] = POSITIONS[:, n]
    scale = {"u1": 1, "u2": 257, "f4": 1 / 255}[shade]
    for n, name in enumerate(("red", "green", "blue")):
        table[name] = COLOURS[:, n] * scale
    kind = {"<": "binary_little_endian", ">": "binary_big_endian"}[order]
    properties = "".join(f"property {kinds[each[1:]]} {name}\n" for name, each in columns)
    head = f"ply\nformat {kind} 1.0\ncomment of a test\nelement vertex {len(table)}\n{properties}"
    return f"{head}{more}end_header\n".encode() + table.tobytes() + after


FACES = "element face 1\nproperty list uchar int vertex_indices\n"
WHOLE = {
    "nerfstudio": ascii_ply(POSITIONS, COLOURS),
    "open3d": binary_ply("<", "f8", "u1"),
    "big endian": binary_ply(">", "f4", "u2"),
    "float colours": binary_ply("<", "f4", "f4"),
    "with faces": binary_ply("<", "f4", "u1", FACES, b"\x03" + bytes(12)),
    "windows": ascii_ply(POSITIONS, COLOURS).replace(b"\n", b"\r\n"),
}


@pytest.mark.parametrize("form", WHOLE)
def test_points_and_their_colours(tmp_path, form):
    path = tmp_path / "sparse.PLY"
    path.write_bytes(WHOLE[form])
    positions, colours = read_points(path)
    np.testing.assert_allclose(positions, POSITIONS, rtol=1e-6)
    np.testing.assert_allclose(colours, COLOURS / 255, atol=1e-6)


def test_points_without_colours_are_grey_and_there_may_be_none(tmp_path):
    path = tmp_path / "points.ply"
    path.write_bytes(b"ply\nformat ascii 1.0\nelement vertex 1\n" + "\n".join(PLACE).encode()
                     + b"\nend_header\n1 2 3\n")  # fmt: skip
    positions, colours = read_points(path)
    np.testing.assert_array_equal(positions, [[1, 2, 3]])
    np.testing.assert_array_equal(colours, [[0.5] * 3])
    for empty in (ascii_ply(POSITIONS[:0], COLOURS[:0]),
                  binary_ply("<", "f4", "u1").replace(b"vertex 3", b"vertex 0")):  # fmt: skip
        path.write_bytes(empty)
        assert [part.shape for part in read_points(path)] == [(0, 3), (0, 3)]


BROKEN = {
    "solid cube": "is not a PLY file",
    "ply\nformat ascii 2\n": "is not a PLY file",
    "ply\nformat ascii 1.0\nelement face 1\nend_header\n": "does not begin with vertices",
    "ply\nformat ascii 1.0\nelement vertex 1\nproperty list uchar int x\nend_header\n": "not plain",
    "ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nend_header\n1\n": "without y, z",
    ascii_ply(POSITIONS, COLOURS).decode()[:-20]: "no numbers|not the 3 vertices",
    ascii_ply(POSITIONS, COLOURS).decode().replace("7.5", "what"): "are no numbers",
    ascii_ply(POSITIONS, COLOURS).decode().replace("-7.500000", "nan"): "not finite",
}


@pytest.mark.parametrize("content", BROKEN)
def test_broken_files_are_refused(tmp_path, content):
    path = tmp_path / "points.ply"
    path.write_text(content)
    with pytest.raises(InputError, match=BROKEN[content]):
        read_points(path)
    path.write_bytes(WHOLE["open3d"][:-1])
    with pytest.raises(InputError, match="bytes of vertices is not the 3 vertices"):
        read_points(path)


def projected(points, pose, lens):
    x, y, z = ((points - pose[:3, 3]) @ pose[:3, :3]).T
    return np.stack([lens[0] * x / z + lens[2], lens[1] * y / z + lens[3]], axis=-1)


def test_points_of_nerfstudio_appear_where_they_did(capture_directory, camera_file):
    """ns-process-data turns COLMAP's world (x, y, z) to (x, z, -y): poses and points alike."""
    before = read_capture(capture_directory)
    assert before.points() is None
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (40, 3))
    applied = np.array([[1.0, 0, 0, 0.1], [0, 0, 1, 0.2], [0, -1, 0, 0.3]])
    turned = points @ applied[:, :3].T + applied[:, 3]
    camera_file.to_transforms()

    def process(document):
        document |= {"applied_transform": applied.tolist(), "ply_file_path": "sparse_pc.ply"}
        for frame in document["frames"]:
            pose = np.vstack([applied, [0, 0, 0, 1]]) @ np.array(frame["transform_matrix"])
            frame["transform_matrix"] = pose.tolist()

    camera_file.edit(process)
    model = capture_directory / "colmap/sparse/0"
    model.mkdir(parents=True)
    rows = [f"{n} {x} {y} {z} 51 51 51 0" for n, (x, y, z) in enumerate(points)]
    (model / "points3D.txt").write_text("\n".join(rows))
    missing = read_capture(capture_directory)
    assert any("ply_file_path='sparse_pc.ply' is no file" in note for note in missing.notes)
    assert missing.points() is None
    colours = np.full((40, 3), 51)
    (capture_directory / "sparse_pc.ply").write_bytes(ascii_ply(turned, colours))
    after = read_capture(capture_directory)
    assert not any("ply_file_path" in note for note in after.notes)
    camera_file.edit(lambda document: document.pop("ply_file_path") and None)
    np.testing.assert_allclose(read_capture(capture_directory).points()[0], turned, atol=1e-12)
    camera_file.edit(lambda document: document.update(ply_file_path="sparse_pc.ply"))
    inputs, targets = chosen_frames(after, 3)
    request = Request(
        inputs=inputs, targets=targets, resolution=(30, 44), shown=(30, 44), similarity=None,
        has_scale=True, background=(1, 1, 1), background_asked=False, plan="full", chunk_views=3,
        keep_ratio=1.0, random_ratio=0.0, accumulate="append", seed=0,
    )  # fmt: skip
    posed = pose_scene(after, request, RunConfig(name="fit").data)
    assert (points_of(after).xyz == after.points()[0]).all()
    found, shades = posed.read_points()
    np.testing.assert_allclose(shades, 0.2, atol=1e-6)
    assert posed.read_points() is posed.read_points()  # read once
    for place, number in enumerate(inputs):
        pose = np.asarray(posed.inputs.cameras.world_from_camera[0, place], np.float64)
        frame = before.frames[number]
        now = projected(found, pose, frame.intrinsics)
        was = projected(points, frame.world_from_camera, frame.intrinsics)
        np.testing.assert_allclose(now, was, atol=0.01)


def test_what_was_applied_is_checked_and_followed(capture_directory, camera_file):
    (capture_directory / "points.ply").write_bytes(ascii_ply(POSITIONS, COLOURS))
    camera_file.to_transforms(ply_file_path="points.ply", applied_scale=0.5)
    positions, _ = read_capture(capture_directory).points()
    np.testing.assert_allclose(positions, 0.5 * POSITIONS)
    for scale in ("big", [1], float("nan")):
        camera_file.edit(lambda document, scale=scale: document.update(applied_scale=scale))
        with pytest.raises(InputError, match=r"applied_scale=.* is not a number; correct it"):
            read_capture(capture_directory)
    (capture_directory / "colmap/sparse/0").mkdir(parents=True)
    (capture_directory / "colmap/sparse/0/points3D.txt").write_text("1 0 0 1 1 1 1 0\n")
    camera_file.edit(lambda document: document.update(ply_file_path=None, applied_scale=None))
    assert read_capture(capture_directory).points() is None  # nobody says how they are turned
    camera_file.edit(lambda document: document.update(applied_transform=[[1, 0, 0]]))
    with pytest.raises(InputError, match=r"applied_transform=.* is not a 3x4 matrix"):
        read_capture(capture_directory)
