"""COLMAP models made here, text and binary, against the capture they were made from."""

import shutil
import struct

import numpy as np
import pytest

from tttlrm_jax.captures.capture import load_views, read_cameras, read_capture
from tttlrm_jax.captures.lenses.distortion import Distortion
from tttlrm_jax.captures.lenses.models import LENS_MODELS, PANORAMA, ModelDistortion
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.geometry.poses import rigid_inverse
from tttlrm_jax.core.geometry.rotations import quaternion_from_rotation

FORMATS = ("txt", "bin")


def write_model(folder, poses, names, lens, model="PINHOLE", binary=False, points=2, size=(44, 30)):
    """A model with one camera of a size (width, height); `lens` are its parameters."""
    folder.mkdir(parents=True)
    entries = []
    for pose, name in zip(poses, names, strict=True):
        inverse = rigid_inverse(pose)
        entries.append((quaternion_from_rotation(inverse[:3, :3]), inverse[:3, 3], name))
    if not binary:
        numbers = " ".join(map(repr, map(float, lens)))
        (folder / "cameras.txt").write_text(f"# comment\n7 {model} {size[0]} {size[1]} {numbers}\n")
        text = "# comment\n"
        for i, (q, t, name) in enumerate(entries):
            pose = " ".join(repr(float(x)) for x in (*q, *t))
            text += f"{i + 1} {pose} 7 {name}\n" + " ".join(["1.5 2.5 -1"] * points) + "\n"
        (folder / "images.txt").write_text(text)
        return
    kind = LENS_MODELS[model].number
    camera = struct.pack("<QIiQQ", 1, 7, kind, *size) + struct.pack(f"<{len(lens)}d", *lens)
    (folder / "cameras.bin").write_bytes(camera)
    out = struct.pack("<Q", len(entries))
    for i, (q, t, name) in enumerate(entries):
        out += struct.pack("<I7dI", i + 1, *q, *t, 7) + name.encode() + b"\0"
        out += struct.pack("<Q", points) + struct.pack("<ddq", 1.5, 2.5, -1) * points
    (folder / "images.bin").write_bytes(out)


@pytest.fixture
def shot(capture_directory, rendered):
    """The capture without its camera file: root, poses, image names, one PINHOLE."""
    (capture_directory / "opencv_cameras.json").unlink()
    names = [f"{number:06d}.png" for number in range(12)]
    return capture_directory, rendered["world_from_camera"], names, rendered["intrinsics"][0]


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("folder", ["sparse/0", "sparse", "."])
@pytest.mark.parametrize("points", [0, 3])
def test_a_model_gives_the_capture_it_was_made_from(shot, rendered, kind, folder, points):
    root, poses, names, lens = shot
    place = root / folder
    if folder == ".":
        place = root / "model"
    write_model(place, poses[::-1], names[::-1], lens, binary=kind == "bin", points=points)
    if folder == ".":
        for file in place.iterdir():
            shutil.move(file, root / file.name)
    capture = read_capture(root)
    assert [frame.name for frame in capture.frames] == names  # by name, not in the file's order
    assert (capture.name, capture.image_size()) == ("toy", (30, 44))
    np.testing.assert_allclose(capture.world_from_camera, poses, atol=1e-9)
    image, cameras = load_views(capture, [4], 30, 44)
    np.testing.assert_allclose(cameras.intrinsics[0], lens)
    alpha = rendered["image"][4, ..., 3:] / 255
    expected = rendered["image"][4, ..., :3] / 255 * alpha + 1 - alpha
    np.testing.assert_allclose(image[0], expected, atol=0.51 / 255)


def test_the_model_directory_itself_and_names_with_spaces(shot):
    root, poses, names, lens = shot
    (root / "images" / "000003.png").rename(root / "images" / "my desk.png")
    names[3] = "my desk.png"
    write_model(root / "sparse" / "0", poses, names, lens)
    for path in (root, root / "sparse" / "0", root / "sparse" / "0" / "cameras.txt"):
        capture = read_capture(path)
        assert capture.frames[-1].name == "my desk.png"
        assert capture.frames[-1].image_path == root.absolute() / "images" / "my desk.png"


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(
    ("model", "lens", "expected", "distortion"),
    [
        ("SIMPLE_PINHOLE", [50, 22, 15], [50, 50, 22, 15], Distortion()),
        ("SIMPLE_RADIAL", [50, 22, 15, 0.1], [50, 50, 22, 15], Distortion(k1=0.1)),
        ("RADIAL", [50, 22, 15, 0.1, 0.2], [50, 50, 22, 15], Distortion(k1=0.1, k2=0.2)),
        (
            "OPENCV", [50, 40, 22, 15, 0.1, 0.2, 0.3, 0.4], [50, 40, 22, 15],
            Distortion(k1=0.1, k2=0.2, p1=0.3, p2=0.4),
        ),
        (
            "FULL_OPENCV", [50, 40, 22, 15, 0.1, 0.2, 0.3, 0.4, 0.5, 0, 0, 0], [50, 40, 22, 15],
            Distortion(k1=0.1, k2=0.2, p1=0.3, p2=0.4, k3=0.5),
        ),
        (
            "FULL_OPENCV", [50, 40, 22, 15, 0, 0, 0, 0, 0, 0, 0.1, 0], [50, 40, 22, 15],
            ModelDistortion("FULL_OPENCV", (0, 0, 0, 0, 0, 0, 0.1, 0)),
        ),
        (
            "OPENCV_FISHEYE", [50, 40, 22, 15, 0.1, 0.2, 0.3, 0.4], [50, 40, 22, 15],
            ModelDistortion("OPENCV_FISHEYE", (0.1, 0.2, 0.3, 0.4)),
        ),
        (
            "SIMPLE_DIVISION", [50, 22, 15, 0.1], [50, 50, 22, 15],
            ModelDistortion("SIMPLE_DIVISION", (0.1,)),
        ),
        ("FISHEYE", [50, 40, 22, 15], [50, 40, 22, 15], ModelDistortion("FISHEYE")),
        (
            "EUCM", [50, 40, 22, 15, 0.5, 1.1], [50, 40, 22, 15],
            ModelDistortion("EUCM", (0.5, 1.1)),
        ),
    ],
)  # fmt: skip
def test_every_lens_that_can_be_undistorted(shot, kind, model, lens, expected, distortion):
    root, poses, names, _ = shot
    write_model(root / "sparse" / "0", poses, names, lens, model, kind == "bin")
    frame = read_capture(root).frames[0]
    np.testing.assert_array_equal(frame.intrinsics, expected)
    assert frame.distortion == distortion


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(
    ("model", "lens", "message"),
    [
        ("EQUIRECTANGULAR", [44, 30], r"EQUIRECTANGULAR.*captures\.cut_panoramas CAPTURE"),
        ("OPENCV_FISHEYE", [50, 50, 22, 15, 0, 0, 0, float("inf")], "OPENCV_FISHEYE.*export"),
        ("PINHOLE", [50, -40, 22, 15], "camera 7.*PINHOLE.*export"),
        ("PINHOLE", [50, float("nan"), 22, 15], "camera 7.*PINHOLE.*export"),
    ],
)
def test_other_lenses_end_in_one_sentence(shot, kind, model, lens, message):
    root, poses, names, _ = shot
    write_model(root / "sparse", poses, names, lens, model, kind == "bin")
    with pytest.raises(InputError, match=message):
        read_capture(root)


def test_numbers_of_models_that_are_unknown_are_named(shot):
    root, poses, names, lens = shot
    write_model(root / "sparse", poses, names, lens, binary=True)
    cameras = root / "sparse" / "cameras.bin"
    whole = cameras.read_bytes()
    cameras.write_bytes(whole[:12] + struct.pack("<i", 18) + whole[16:])
    with pytest.raises(InputError, match=r"model number 18, which is none of .*16 EUCM, 17 EQ"):
        read_capture(root)


def test_cameras_of_panoramas_are_read_where_they_are_wanted(shot):
    root, poses, names, _ = shot
    write_model(root / "sparse", poses, names, [44, 30], "EQUIRECTANGULAR")
    frame = read_cameras(root, panoramas=True)[0]
    assert frame.distortion == PANORAMA
    with pytest.raises(InputError, match="EQUIRECTANGULAR"):
        read_cameras(root)


def test_broken_files_end_in_one_sentence(shot):
    root, poses, names, lens = shot
    write_model(root / "sparse", poses, names, lens, binary=True)
    images = root / "sparse" / "images.bin"
    whole = images.read_bytes()
    images.write_bytes(whole[:-60])
    with pytest.raises(InputError, match=r"images\.bin ends in the middle"):
        read_capture(root)
    images.write_bytes(whole[:12] + b"\0" * 32 + whole[44:])  # the first quaternion
    with pytest.raises(InputError, match=r"000000\.png has the pose"):
        read_capture(root)
    images.unlink()
    with pytest.raises(InputError, match=r"images\.bin cannot be read"):
        read_capture(root)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("cameras.txt", "7 PINHOLE 44", "'7 PINHOLE 44' is not one of COLMAP's"),
        ("cameras.txt", "7 LENSLET 44 30 1 2 3 4", "LENSLET"),
        ("cameras.txt", "8 PINHOLE 44 30 50 50 22 15", "camera 7, which cameras lacks"),
        ("images.txt", "1 0 0 0", "is not one of COLMAP's"),
        ("images.txt", "# nothing", "lists 0 images"),
    ],
)
def test_broken_text_ends_in_one_sentence(shot, file, text, message):
    root, poses, names, lens = shot
    write_model(root / "sparse", poses, names, lens)
    (root / "sparse" / file).write_text(text + "\n")
    with pytest.raises(InputError, match=message):
        read_capture(root)


def test_a_camera_file_comes_before_a_model(capture_directory, rendered):
    write_model(
        capture_directory / "sparse", rendered["world_from_camera"][:2], ["a", "b"], [9] * 4
    )
    assert len(read_capture(capture_directory)) == 12
