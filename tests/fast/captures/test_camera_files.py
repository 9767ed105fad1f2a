import json

import numpy as np
import pytest
from PIL import Image

from tttlrm_jax.captures.capture import load_views, read_capture
from tttlrm_jax.core.errors import InputError

CAMERAS = "opencv_cameras.json"


def test_a_list_a_dict_and_the_file_itself_read_alike(capture_directory, camera_file):
    as_dict = read_capture(capture_directory / CAMERAS)
    camera_file.edit(lambda document: document["frames"])
    as_list = read_capture(str(capture_directory))
    np.testing.assert_array_equal(as_dict.world_from_camera, as_list.world_from_camera)
    assert as_list.name == "toy"


@pytest.mark.parametrize("shared_intrinsics", [True, False])
def test_transforms_json_gives_the_same_views(capture_directory, camera_file, shared_intrinsics):
    before = read_capture(capture_directory)
    camera_file.to_transforms(shared_intrinsics)
    after = read_capture(capture_directory)
    np.testing.assert_allclose(after.world_from_camera, before.world_from_camera, atol=1e-9)
    for one, two in zip(before.frames, after.frames, strict=True):
        np.testing.assert_array_equal(one.intrinsics, two.intrinsics)
        assert one.size == two.size
    np.testing.assert_array_equal(
        load_views(before, [3], 16, 24)[0], load_views(after, [3], 16, 24)[0]
    )


def test_transforms_json_of_blender(capture_directory, camera_file):
    """A field of view instead of focal lengths, image names without suffix."""
    before = read_capture(capture_directory)
    camera_file.to_transforms()

    def change(document):
        for key in ("fl_x", "fl_y", "cx", "cy", "w", "h"):
            del document[key]
        document["camera_angle_x"] = 2 * np.arctan(22 / before.frames[0].intrinsics[0])
        for frame in document["frames"]:
            frame["file_path"] = "./" + frame["file_path"].removesuffix(".png")

    camera_file.edit(change)
    after = read_capture(capture_directory)
    np.testing.assert_allclose(after.frames[7].intrinsics, before.frames[7].intrinsics)
    assert after.image_size(7) == (30, 44)
    load_views(after, [7], 16, 16)


BAD_FRAMES = {
    "no w2c": ({"w2c": None}, "frame 3 .*has no w2c"),
    "ragged": ({"w2c": [[1, 0], [0]]}, "w2c is not a 4x4 matrix"),
    "text": ({"w2c": "identity"}, "w2c is not a 4x4 matrix"),
    "2x4": ({"w2c": np.eye(4)[:2].tolist()}, r"shape \(2, 4\)"),
    "NaN pose": ({"w2c": (np.eye(4) * np.nan).tolist()}, "not finite"),
    "singular": ({"w2c": np.diag([1.0, 0, 1, 1]).tolist()}, "singular"),
    "scaled": ({"w2c": np.diag([2.0, 2, 2, 1]).tolist()}, "not rigid"),
    "mirrored": ({"w2c": np.diag([1.0, 1, -1, 1]).tolist()}, "mirrors"),
    "NaN focal": ({"fx": float("nan")}, r"intrinsics.*not all finite"),
    "no centre": ({"cx": None}, r"intrinsics.*not all finite"),
    "text focal": ({"fy": "long"}, r"intrinsics.*not all finite"),
    "negative focal": ({"fy": -3.0}, "not positive"),
    "no file": ({"file_path": None}, "frame 3 has no file_path"),
    "half a pixel": ({"w": 43.5}, "not whole"),
}


@pytest.mark.parametrize("kind", BAD_FRAMES)
def test_a_bad_frame_is_named(capture_directory, camera_file, kind):
    fields, words = BAD_FRAMES[kind]
    camera_file.edit_frame(3, **fields)
    with pytest.raises(InputError, match=words) as error:
        read_capture(capture_directory)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"frames": [', "is not JSON"),
        ("", "is not JSON"),
        ('{"images": []}', "holds no list of frames"),
        ('"frames"', "holds no list of frames"),
        ('{"frames": {}}', "holds no list of frames"),
        ("[]", "lists 0 frames"),
        ('{"frames": []}', "lists 0 frames"),
        ("[1, 2]", "frame 0 has no file_path"),
    ],
)
def test_a_bad_file_is_named(capture_directory, text, words):
    (capture_directory / CAMERAS).write_text(text)
    with pytest.raises(InputError, match=words):
        read_capture(capture_directory)


def test_a_file_that_is_not_text(capture_directory):
    (capture_directory / CAMERAS).write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(InputError, match="is not JSON"):
        read_capture(capture_directory)


@pytest.mark.parametrize("fold", [[0, 1], [0, 1, 99], [0, 1, 2.5], "012", [0, 1, True]])
def test_a_bad_prescribed_list_is_named(capture_directory, camera_file, fold):
    camera_file.edit(lambda d: d.update({"fold_8_kmeans_3_input": fold}))
    with pytest.raises(InputError, match="fold_8_kmeans_3_input is not a list of 3"):
        read_capture(capture_directory)


def nested(depth):
    return "[" * depth + "]" * depth


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (nested(100_000), "too deeply"),
        ('{"a": ' * 100_000, "too deeply"),
        ('{"frames": [], "n": ' + "9" * 5000 + "}", "is not JSON"),
    ],
    ids=["lists", "dicts", "digits"],
)
def test_a_file_that_no_exporter_wrote(capture_directory, text, words):
    (capture_directory / CAMERAS).write_text(text)
    with pytest.raises(InputError, match=words):
        read_capture(capture_directory)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"fx": 10**400}, r"intrinsics.*not all finite"),
        ({"h": 10**400}, r"h, w=.*not all finite"),
        ({"w2c": np.diag([10**400, 1, 1, 1]).tolist()}, "w2c is not a 4x4 matrix"),
        ({"w2c": json.loads(nested(200))}, "w2c is not a 4x4 matrix"),
    ],
    ids=["focal", "size", "pose", "nested pose"],
)
def test_numbers_beyond_float64(capture_directory, camera_file, fields, words):
    camera_file.edit_frame(3, **fields)
    with pytest.raises(InputError, match=rf"frame 3 .*{words}") as error:
        read_capture(capture_directory)
    assert len(str(error.value)) < 500


@pytest.mark.parametrize(
    ("lens", "words"),
    [
        ({"camera_model": "FISHEYE624"}, "camera_model=FISHEYE624"),
        ({"camera_model": None}, "camera_model=None"),
        ({"k6": -0.02}, "k6=-0.02"),
        ({"ftheta_p0": 0.0}, "ftheta_p0"),
    ],
)
def test_lenses_that_are_not_implemented_are_refused(capture_directory, camera_file, lens, words):
    camera_file.to_transforms(**lens)
    with pytest.raises(InputError, match=rf"{words}.*undistort the images first"):
        read_capture(capture_directory)


def test_what_other_lenses_leave_at_zero_is_accepted(capture_directory, camera_file):
    before = read_capture(capture_directory)
    camera_file.to_transforms(camera_model="OPENCV", is_fisheye=False, k5=0.0, k6=0)
    after = read_capture(capture_directory)
    np.testing.assert_array_equal(after.frames[3].intrinsics, before.frames[3].intrinsics)
    assert not after.frames[3].distortion


def test_image_names_without_suffix_may_hold_dots(capture_directory, camera_file):
    before = load_views(read_capture(capture_directory), [2, 7], 16, 24)[0]
    camera_file.to_transforms()
    images = capture_directory / "images"
    for number in range(12):
        (images / f"{number:06d}.png").rename(images / f"r_{number / 4}.png")

    def change(document):
        for number, frame in enumerate(document["frames"]):
            frame["file_path"] = f"./images/r_{number / 4}"

    camera_file.edit(change)
    after = load_views(read_capture(capture_directory), [2, 7], 16, 24)[0]
    np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("transforms", [False, True])
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "frame 3 has an empty file_path"),
        (" ", "frame 3 has an empty file_path"),
        ("images", "frame 3 has file_path=images, a directory"),
        (".", r"frame 3 has file_path=\., a directory"),
        ("x" * 5000, "of 12 images do not exist"),
        ("a\0b", "of 12 images do not exist"),
    ],
    ids=["empty", "blank", "directory", "here", "long", "nul"],
)
def test_file_names_that_name_no_file(capture_directory, camera_file, name, words, transforms):
    if transforms:
        camera_file.to_transforms()
    camera_file.edit(lambda d: d["frames"][3].update(file_path=name))
    Image.new("RGB", (44, 30)).save(capture_directory.with_suffix(".png"))  # beside it
    with pytest.raises(InputError, match=words):
        read_capture(capture_directory)


@pytest.mark.parametrize("keep", [(), ("w", "h"), ("cx", "cy"), ("cx", "cy", "w", "h")])
def test_a_vertical_field_of_view_gives_both_focal_lengths(capture_directory, camera_file, keep):
    before = read_capture(capture_directory)
    camera_file.to_transforms()

    def change(document):
        for key in {"fl_x", "fl_y", "cx", "cy", "w", "h"} - set(keep):
            del document[key]
        document["camera_angle_y"] = 2 * np.arctan(15 / before.frames[0].intrinsics[1])

    camera_file.edit(change)
    lens = read_capture(capture_directory).frames[7].intrinsics
    np.testing.assert_allclose(lens, before.frames[7].intrinsics)


def test_a_vertical_field_of_view_beside_a_horizontal_focal_length(capture_directory, camera_file):
    camera_file.to_transforms(fl_y=None, camera_angle_y=2 * np.arctan(0.5))
    camera_file.edit(lambda d: d.update(fl_x=70.0, fl_y=None))
    lens = read_capture(capture_directory).frames[0].intrinsics
    np.testing.assert_allclose(lens[:2], [70.0, 30.0])


@pytest.mark.parametrize("angle", [0.0, 4.0, True, "wide"])
def test_a_field_of_view_that_is_none(capture_directory, camera_file, angle):
    camera_file.to_transforms()

    def change(document):
        del document["fl_x"], document["fl_y"], document["w"], document["cx"]
        document["camera_angle_y"] = angle

    camera_file.edit(change)
    with pytest.raises(InputError, match=r"\[None, None, 22\.0, 15\.0\] are not all finite"):
        read_capture(capture_directory)


@pytest.mark.parametrize("key", ["fl_x", "cx", "cy"])
@pytest.mark.parametrize("value", [10**400, float("nan"), "wide", True, -5])
def test_lengths_that_are_none_beside_a_field_of_view(capture_directory, camera_file, key, value):
    camera_file.to_transforms(camera_angle_x=1.0)
    camera_file.edit(lambda d: d.update({"w": None, "h": None, "fl_y": None, key: value}))
    camera_file.edit(lambda d: d.update({"cy": None} if key != "cy" else {"fl_x": None}))
    if value == -5 and key != "fl_x":
        read_capture(capture_directory)  # a centre may lie outside
        return
    with pytest.raises(InputError, match=r"not all finite|not positive"):
        read_capture(capture_directory)
