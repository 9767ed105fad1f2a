"""Cameras that are written are read back, by our own readers and by COLMAP's."""

import dataclasses
import importlib.util
import json
import struct

import numpy as np
import pytest
from PIL import Image

from tttlrm_jax.captures.camera_files import OPENCV_FROM_OPENGL, Frame
from tttlrm_jax.captures.capture import read_capture
from tttlrm_jax.captures.lenses.distortion import IDEAL_LENS, Distortion
from tttlrm_jax.captures.lenses.models import ModelDistortion
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.geometry.poses import look_at
from tttlrm_jax.export.cameras.colmap_points import points_of
from tttlrm_jax.export.cameras.formats import FORMATS, write_cameras, write_frames
from tttlrm_jax.export.cameras.sparse_points import SparsePoints, Tracks, project
from tttlrm_jax.export.ply import read_vertices

NUM, NUM_POINTS = 5, 40
SIZES = np.array([[24, 40]] * 4 + [[30, 20]])


def poses(seed=0):
    rng = np.random.default_rng(seed)
    return look_at(4 * rng.normal(size=(NUM, 3)), rng.normal(size=(NUM, 3)), np.array([0, -1, 0]))


def lenses():
    return np.array([[50.25, 49.5, 20.125, 11.75]] * 4 + [[33.0, 34.0, 9.0, 16.0]])


def points(noise=0.0, seed=1):
    """In front of some cameras, seen by those with so many pixels of error."""
    rng = np.random.default_rng(seed)
    xyz, rgb = rng.normal(size=(NUM_POINTS, 3)), rng.integers(0, 256, (NUM_POINTS, 3))
    point, view = np.nonzero(rng.random((NUM_POINTS, NUM)) < 0.6)
    frames = [
        Frame(n, "", None, lens, pose)
        for n, (lens, pose) in enumerate(zip(lenses(), poses()))  # noqa: B905
    ]
    pixel = np.stack([project(frames[v], xyz[p][None])[0] for p, v in zip(point, view)])  # noqa: B905
    angle = rng.uniform(0, 2 * np.pi, len(pixel))
    pixel = pixel + noise * np.stack([np.cos(angle), np.sin(angle)], -1)
    return SparsePoints(xyz, rgb.astype(np.uint8), Tracks(point, view, pixel))


@pytest.fixture
def pictures(tmp_path):
    """Names of pictures on disk, in two folders."""
    names = [f"photos/{part}/{n}.png" for n, part in enumerate("aaabb")]
    for name, (height, width) in zip(names, SIZES, strict=True):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (int(width), int(height))).save(tmp_path / name)
    return [str(tmp_path / name) for name in names]


def written(formats, folder, names, **changes):
    given = {"world_from_camera": poses(), "intrinsics": lenses(), "sizes": SIZES, **changes}
    return write_cameras(formats, folder, names, **given)


@pytest.mark.parametrize("form", ["colmap", "text", "nerfstudio", "opencv"])
def test_what_is_written_is_read(tmp_path, pictures, form):
    """By our own readers of captures, to the same cameras."""
    folder = tmp_path / "out"
    files = written(["colmap" if form == "text" else form], folder, pictures, points=points())
    assert all(path.is_file() for path in files)
    place = {"colmap": "colmap/sparse/0", "text": "colmap/text"}.get(form, "")
    if form == "text":
        (folder / "colmap/text").rename(folder / "model")
        place = "model"
    capture = read_capture(folder / place)
    assert [str(frame.image_path) for frame in capture.frames] == pictures
    np.testing.assert_allclose(capture.world_from_camera, poses(), atol=1e-12)
    for frame, lens, size in zip(capture.frames, lenses(), SIZES, strict=True):
        np.testing.assert_array_equal(frame.intrinsics, lens)
        assert frame.size == tuple(size)
        assert not frame.distortion


@pytest.mark.parametrize("text", [False, True])
def test_points_and_tracks_are_read_back(tmp_path, pictures, text):
    given = points(noise=0.5)
    written(["colmap"], tmp_path / "out", pictures, points=given)
    (tmp_path / "out/colmap/text").rename(tmp_path / "model")
    capture = read_capture(tmp_path / "model" if text else tmp_path / "out/colmap/sparse/0")
    found = points_of(capture)
    np.testing.assert_array_equal(found.xyz, given.xyz)
    np.testing.assert_array_equal(found.rgb, given.rgb)
    both = []
    for tracks in (found.tracks, given.tracks):
        order = np.lexsort((tracks.view, tracks.point))
        both.append([tracks.point[order], tracks.view[order], tracks.pixel[order]])
    for mine, theirs in zip(*both, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    errors = given.errors(capture.frames)
    seen = np.bincount(given.tracks.point, minlength=NUM_POINTS) > 0
    np.testing.assert_allclose(errors[seen], 0.5, atol=1e-9)
    assert (errors[~seen] == -1).all()


def test_points_of_fewer_and_smaller_pictures(tmp_path, pictures):
    """Observations of frames that are left out are left out; others are of the pictures' size."""
    given = points()
    written(["colmap"], tmp_path / "out", pictures, points=given)
    for number, name in enumerate(pictures):
        height, width = SIZES[number] // 2
        Image.new("RGB", (int(width), int(height))).save(name)
    capture = read_capture(tmp_path / "out/colmap/sparse/0")
    fewer = dataclasses.replace(capture, frames=capture.frames[1:4])
    found = points_of(fewer)
    kept = np.isin(given.tracks.view, [1, 2, 3])
    assert len(found.tracks.point) == kept.sum()
    errors = found.errors(fewer.frames)
    assert errors.max() < 1e-9
    assert (errors == -1).any() == (len(np.unique(given.tracks.point[kept])) < NUM_POINTS)
    moved = dataclasses.replace(capture, points_frame=np.eye(3, 4) * 2)
    assert points_of(moved).tracks is None
    np.testing.assert_allclose(points_of(moved).xyz, 2 * given.xyz)
    assert points_of(dataclasses.replace(capture, points_file=None)) is None


def test_colmap_by_hand(tmp_path):
    """The bytes of one image and one point, as COLMAP's documents lay them out."""
    pose = np.eye(4)
    pose[:3, 3] = [1, 2, 3]
    seen = SparsePoints(
        np.array([[1.0, 2.0, 5.0]]), np.uint8([[7, 8, 9]]),
        Tracks(np.array([0]), np.array([0]), np.array([[11.0, 12.5]])),
    )  # fmt: skip
    write_cameras(["colmap"], tmp_path, ["a.png"], pose[None], [[10, 10, 12, 12]], [[24, 24]], seen)
    model, text = tmp_path / "colmap/sparse/0", tmp_path / "colmap/text"
    assert (model / "cameras.bin").read_bytes() == struct.pack(
        "<QIiQQ4d", 1, 1, 1, 24, 24, 10, 10, 12, 12
    )
    image = struct.pack("<QI7dI", 1, 1, 1, 0, 0, 0, -1, -2, -3, 1) + b"a.png\0"
    assert (model / "images.bin").read_bytes() == image + struct.pack("<Qddq", 1, 11.0, 12.5, 1)
    error = float(np.hypot(11 - 12, 12.5 - 12))
    assert (model / "points3D.bin").read_bytes() == struct.pack(
        "<QQ3d3BdQII", 1, 1, 1, 2, 5, 7, 8, 9, error, 1, 1, 0
    )
    lines = (text / "images.txt").read_text().splitlines()
    assert lines[1].split()[0] == "1"
    assert lines[1].split()[8:] == ["1", "a.png"]
    assert lines[2] == "11.0 12.5 1"
    assert (text / "points3D.txt").read_text().splitlines()[1].endswith(f"7 8 9 {error!r} 1 0")


def test_nerfstudio_has_opengl_axes(tmp_path):
    """Camera to world, x right, y up, looking along -z; points in the same world."""
    files = written(["nerfstudio"], tmp_path, [f"{n}.png" for n in range(NUM)], points=points())
    document = json.loads((tmp_path / "transforms.json").read_text())
    for entry, pose in zip(document["frames"], poses(), strict=True):
        matrix = np.array(entry["transform_matrix"])
        np.testing.assert_allclose(matrix, pose @ OPENCV_FROM_OPENGL, atol=1e-6)
        ahead = matrix @ [0, 0, -1, 1]
        np.testing.assert_allclose(ahead[:3], pose[:3, 3] + pose[:3, 2], atol=1e-6)
        np.testing.assert_allclose(matrix[:3, 1], -pose[:3, 1], atol=1e-6)
    assert document["frames"][4]["file_path"] == "4.png"
    assert document["ply_file_path"] == "sparse_points.ply"
    stored = read_vertices(files[1])
    np.testing.assert_allclose(
        np.stack([stored[axis] for axis in "xyz"], -1), points().xyz, rtol=1e-6
    )
    assert stored[["red", "green", "blue"]][3].tolist() == tuple(points().rgb[3].tolist())


def test_tum_is_camera_to_world(tmp_path):
    (path,) = written(["tum"], tmp_path, [f"{n}.png" for n in range(NUM)])
    rows = np.loadtxt(path)
    np.testing.assert_allclose(rows[:, 1:4], poses()[:, :3, 3], atol=1e-6)
    assert rows[:, 0].tolist() == list(range(NUM))
    x, y, z, w = rows[:, 4:].T
    np.testing.assert_allclose(1 - 2 * (y * y + z * z), poses()[:, 0, 0], atol=1e-6)
    np.testing.assert_allclose(2 * (x * z + w * y), poses()[:, 0, 2], atol=1e-6)


@pytest.mark.parametrize(
    "lens",
    [
        Distortion(k1=0.1, k2=-0.02, p1=1e-3, p2=2e-3),
        Distortion(k1=0.1, k3=0.01),
        ModelDistortion("OPENCV_FISHEYE", (0.01, 0.02, 0.0, 0.003)),
    ],
)
@pytest.mark.parametrize("form", ["colmap", "nerfstudio"])
def test_lenses_are_kept(tmp_path, pictures, lens, form):
    frames = [
        Frame(n, f"{n}", picture, camera, pose, tuple(map(int, size)), lens)
        for n, (picture, camera, pose, size) in enumerate(
            zip(map(type(tmp_path), pictures), lenses(), poses(), SIZES, strict=True)
        )
    ]
    write_frames([form], tmp_path / "out", frames)
    place = "out/colmap/sparse/0" if form == "colmap" else "out"
    read = read_capture(tmp_path / place)
    assert [frame.distortion for frame in read.frames] == [lens] * NUM
    assert [frame.image_path.resolve() for frame in read.frames] == [
        frame.image_path.resolve() for frame in frames
    ]
    with pytest.raises(InputError, match=r"lenses that distort.* write colmap or nerfstudio"):
        write_frames(["opencv"], tmp_path / "out", frames)


def test_bad_cameras(tmp_path):
    names = [f"{n}.png" for n in range(NUM)]
    broken = poses()
    broken[2, 0, 0] = np.nan
    changes = [
        ({"world_from_camera": poses()[:3]}, r"world_from_camera.shape=\(3, 4, 4\)"),
        ({"sizes": SIZES[:, 0]}, r"sizes.shape=\(5,\)"),
        ({"world_from_camera": broken}, "camera 2.png has entries that are not finite"),
        ({"world_from_camera": 2 * poses()}, "camera 0.png"),
        ({"intrinsics": 0 * lenses()}, "no pinhole's"),
        ({"points": (np.zeros((3, 3)), np.zeros((3, 3)))}, "colours uint8"),
        ({"points": (np.full((3, 3), np.inf), np.zeros((3, 3), np.uint8))}, "not finite"),
    ]
    for change, message in changes:
        with pytest.raises(InputError, match=message):
            written(list(FORMATS), tmp_path / "out", names, **change)
    with pytest.raises(InputError, match="use some of colmap, nerfstudio, tum, opencv"):
        written(["kapture"], tmp_path / "out", names)
    with pytest.raises(InputError, match=r"1\.png name more than one"):
        written(["tum"], tmp_path / "out", ["1.png", *names[1:]])
    k4 = [Frame(0, "a", tmp_path, lenses()[0], poses()[0], (2, 2), Distortion(k1=0.1, k4=0.1))]
    with pytest.raises(InputError, match="which no model of COLMAP has"):
        write_frames(["colmap"], tmp_path / "out", k4)
    k4 = [dataclasses.replace(k4[0], distortion=IDEAL_LENS)]
    assert not (tmp_path / "out/colmap").exists()
    write_frames(["colmap"], tmp_path / "out", k4)


@pytest.mark.skipif(importlib.util.find_spec("pycolmap") is None, reason="pycolmap is not there")
@pytest.mark.parametrize("place", ["sparse/0", "text"])
def test_pycolmap_opens_the_model(tmp_path, pictures, place):
    """With the same cameras, points and tracks, and the reprojection errors that were put in."""
    import pycolmap

    given = points(noise=0.25)
    written(["colmap"], tmp_path / "out", pictures, points=given)
    model = pycolmap.Reconstruction(tmp_path / "out/colmap" / place)
    assert (model.num_images(), model.num_cameras(), model.num_points3D()) == (NUM, 2, NUM_POINTS)
    assert [model.images[n + 1].name for n in range(NUM)] == pictures
    for number, image in model.images.items():
        pose = np.vstack([image.cam_from_world().matrix(), [0, 0, 0, 1]])
        np.testing.assert_allclose(pose, np.linalg.inv(poses()[number - 1]), atol=1e-9)
        camera = model.cameras[image.camera_id]
        assert (camera.model.name, camera.height, camera.width) == ("PINHOLE", *SIZES[number - 1])
        np.testing.assert_array_equal(camera.params, lenses()[number - 1])
    seen = np.flatnonzero(np.bincount(given.tracks.point, minlength=NUM_POINTS))
    for number in seen + 1:
        point = model.points3D[int(number)]
        np.testing.assert_array_equal(point.xyz, given.xyz[number - 1])
        np.testing.assert_array_equal(point.color, given.rgb[number - 1])
        assert point.error == pytest.approx(0.25)
    stored = {number: model.points3D[int(number)].error for number in seen + 1}
    model.update_point_3d_errors()
    for number, error in stored.items():
        assert model.points3D[int(number)].error == pytest.approx(error, abs=1e-9)
    assert model.compute_mean_reprojection_error() == pytest.approx(0.25)
