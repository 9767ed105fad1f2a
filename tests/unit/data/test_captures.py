import json

import numpy as np
import pytest
from PIL import Image

from tttlrm_jax.data import captures
from tttlrm_jax.data.captures import CaptureScene, load_views, read_capture
from tttlrm_jax.errors import InputError

CAMERAS = "opencv_cameras.json"
OPENGL = np.diag([1.0, -1, -1, 1])


def edit(directory, change, name=CAMERAS):
    """Rewrites the camera file after `change(document)`."""
    path = directory / name
    document = json.loads(path.read_text())
    path.write_text(json.dumps(change(document) or document))


def edit_frame(directory, number, **fields):
    """Sets fields of one frame; None deletes."""

    def change(document):
        frame = document["frames"][number]
        for key, value in fields.items():
            frame.pop(key, None) if value is None else frame.update({key: value})

    edit(directory, change)


def to_transforms(directory, shared_intrinsics=True, **extra):
    """Replaces the camera file by the equivalent nerfstudio one."""
    document = json.loads((directory / CAMERAS).read_text())
    frames, lens = [], {}
    for frame in document["frames"]:
        pose = np.linalg.inv(np.array(frame["w2c"])) @ OPENGL
        entry = {"file_path": frame["file_path"], "transform_matrix": pose.tolist()}
        lens = {"fl_x": frame["fx"], "fl_y": frame["fy"], "cx": frame["cx"], "cy": frame["cy"]}
        lens |= {"w": frame["w"], "h": frame["h"]}
        frames.append(entry if shared_intrinsics else entry | lens)
    top = (lens if shared_intrinsics else {}) | extra | {"frames": frames}
    (directory / "transforms.json").write_text(json.dumps(top))
    (directory / CAMERAS).unlink()


def test_cameras_and_pixels_survive_the_round_trip(capture_directory, rendered):
    capture = read_capture(capture_directory)
    assert (len(capture), capture.name, capture.image_size()) == (12, "toy", (30, 44))
    np.testing.assert_allclose(capture.world_from_camera, rendered["world_from_camera"], atol=1e-12)
    image, cameras = load_views(capture, [4, 1], 30, 44)
    assert image.dtype == np.float32
    alpha = rendered["image"][[4, 1], ..., 3:] / 255
    expected = rendered["image"][[4, 1], ..., :3] / 255 * alpha + 1 - alpha
    np.testing.assert_allclose(image, expected, atol=0.51 / 255)
    np.testing.assert_allclose(cameras.intrinsics, rendered["intrinsics"][[4, 1]])
    np.testing.assert_allclose(cameras.world_from_camera, capture.world_from_camera[[4, 1]])
    assert (cameras.height, cameras.width) == (30, 44)


def test_a_list_a_dict_and_the_file_itself_read_alike(capture_directory):
    as_dict = read_capture(capture_directory / CAMERAS)
    edit(capture_directory, lambda document: document["frames"])
    as_list = read_capture(str(capture_directory))
    np.testing.assert_array_equal(as_dict.world_from_camera, as_list.world_from_camera)
    assert as_list.name == "toy"


def test_background_and_resizing_reach_the_pixels(capture_directory):
    capture = read_capture(capture_directory)
    image, cameras = load_views(capture, [0], 16, 24, background=(0.0, 0.0, 1.0))
    assert image.shape == (1, 16, 24, 3)
    np.testing.assert_allclose(image[0, 0, 0], [0, 0, 1], atol=0.01)
    np.testing.assert_allclose(cameras.intrinsics[0, 2:], [12.0, 8.0], atol=0.51)
    squeezed, lens = load_views(capture, [0], 16, 24, resize_mode="tttlrm")
    assert squeezed.shape == (1, 16, 24, 3)
    np.testing.assert_allclose(lens.intrinsics[0, 2:], [12.0, 8.0])


def test_only_the_frames_asked_for_are_decoded(capture_directory, monkeypatch):
    seen = []
    original = captures.read_image
    monkeypatch.setattr(captures, "read_image", lambda path: seen.append(path) or original(path))
    for number in (2, 3):
        (capture_directory / "images" / f"{number:06d}.png").write_bytes(b"broken")
    load_views(read_capture(capture_directory), [5, 0], 16, 16)
    assert [path.name for path in seen] == ["000005.png", "000000.png"]


def test_prescribed_inputs_win(capture_directory):
    edit(
        capture_directory,
        lambda d: d.update({"fold_8_kmeans_3_input": [1, 5, 7], "fold_8_kmeans_2_input": [1, 8]}),
    )
    capture = read_capture(capture_directory)
    inputs, targets = capture.split(3)
    np.testing.assert_array_equal(inputs, [1, 5, 7])
    np.testing.assert_array_equal(targets, [0, 8])
    assert len(capture.split(4)[0]) == 4
    with pytest.raises(InputError, match=r"fold_8_kmeans_2_input.*\[8\].*targets"):
        capture.split(2)


@pytest.mark.parametrize("shared_intrinsics", [True, False])
def test_transforms_json_gives_the_same_views(capture_directory, shared_intrinsics):
    before = read_capture(capture_directory)
    to_transforms(capture_directory, shared_intrinsics)
    after = read_capture(capture_directory)
    np.testing.assert_allclose(after.world_from_camera, before.world_from_camera, atol=1e-9)
    for one, two in zip(before.frames, after.frames, strict=True):
        np.testing.assert_array_equal(one.intrinsics, two.intrinsics)
        assert one.size == two.size
    np.testing.assert_array_equal(
        load_views(before, [3], 16, 24)[0], load_views(after, [3], 16, 24)[0]
    )


def test_transforms_json_of_blender(capture_directory):
    """A field of view instead of focal lengths, image names without suffix."""
    before = read_capture(capture_directory)
    to_transforms(capture_directory)

    def change(document):
        for key in ("fl_x", "fl_y", "cx", "cy", "w", "h"):
            del document[key]
        document["camera_angle_x"] = 2 * np.arctan(22 / before.frames[0].intrinsics[0])
        for frame in document["frames"]:
            frame["file_path"] = "./" + frame["file_path"].removesuffix(".png")

    edit(capture_directory, change, "transforms.json")
    after = read_capture(capture_directory)
    np.testing.assert_allclose(after.frames[7].intrinsics, before.frames[7].intrinsics)
    assert after.image_size(7) == (30, 44)
    load_views(after, [7], 16, 16)


def test_distorted_transforms_are_undistorted(capture_directory):
    to_transforms(capture_directory)
    plain = load_views(read_capture(capture_directory), [2], 30, 44)[0]
    edit(capture_directory, lambda d: d.update({"k1": 0.0, "p2": 0.0}), "transforms.json")
    zero = load_views(read_capture(capture_directory), [2], 30, 44)[0]
    edit(capture_directory, lambda d: d.update({"k1": -0.3}), "transforms.json")
    bent = load_views(read_capture(capture_directory), [2], 30, 44)[0]
    np.testing.assert_array_equal(plain, zero)
    assert np.abs(plain - bent).max() > 0.1


def test_fisheye_is_refused(capture_directory):
    to_transforms(capture_directory, camera_model="OPENCV_FISHEYE")
    with pytest.raises(InputError, match=r"OPENCV_FISHEYE.*undistort the images first"):
        read_capture(capture_directory)


def test_missing_images_are_named_together_or_skipped(capture_directory):
    edit(
        capture_directory,
        lambda d: d.update({"fold_8_kmeans_2_input": [2, 5], "fold_8_kmeans_1_input": [4]}),
    )
    for number in (2, 9):
        (capture_directory / "images" / f"{number:06d}.png").unlink()
    with pytest.raises(InputError, match=r"000002\.png, images/000009\.png of 12 images") as error:
        read_capture(capture_directory)
    assert "--skip-missing" in str(error.value)
    capture = read_capture(capture_directory, skip_missing=True)
    assert len(capture) == 10
    assert capture.frames[2].name.endswith("000003.png")
    assert capture.folds == {1: (3,)}
    for path in (capture_directory / "images").iterdir():
        path.unlink()
    with pytest.raises(InputError, match="0 of 12"):
        read_capture(capture_directory, skip_missing=True)


BAD_FRAMES = {
    "no w2c": ({"w2c": None}, "frame 3 .*has no w2c"),
    "ragged": ({"w2c": [[1, 0], [0]]}, "w2c is not a 4x4 matrix"),
    "text": ({"w2c": "identity"}, "w2c is not a 4x4 matrix"),
    "3x4": ({"w2c": np.eye(4)[:3].tolist()}, r"shape \(3, 4\)"),
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
def test_a_bad_frame_is_named(capture_directory, kind):
    fields, words = BAD_FRAMES[kind]
    edit_frame(capture_directory, 3, **fields)
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
def test_a_bad_prescribed_list_is_named(capture_directory, fold):
    edit(capture_directory, lambda d: d.update({"fold_8_kmeans_3_input": fold}))
    with pytest.raises(InputError, match="fold_8_kmeans_3_input is not a list of 3"):
        read_capture(capture_directory)


def test_unknown_layouts_say_what_is_known(tmp_path):
    with pytest.raises(InputError, match=r"opencv_cameras\.json or transforms\.json"):
        read_capture(tmp_path)
    with pytest.raises(InputError, match="is not a directory"):
        read_capture(tmp_path / "nowhere")


def test_image_of_another_size_than_stated(capture_directory):
    path = capture_directory / "images" / "000006.png"
    Image.open(path).resize((22, 15)).save(path)
    capture = read_capture(capture_directory)
    load_views(capture, [5], 16, 16)
    with pytest.raises(InputError, match=r"000006\.png is 22x15 pixels, its camera says 44x30"):
        load_views(capture, [6], 16, 16)


def test_truncated_image(capture_directory):
    path = capture_directory / "images" / "000006.png"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match=r"000006\.png cannot be decoded"):
        load_views(read_capture(capture_directory), [6], 16, 16)


def test_frames_that_are_not_there(capture_directory):
    capture = read_capture(capture_directory)
    with pytest.raises(InputError, match=r"\[12, -1\] are not in 0..11"):
        load_views(capture, [3, 12, -1], 16, 16)
    with pytest.raises(InputError, match="at least one"):
        load_views(capture, [], 16, 16)
    with pytest.raises(InputError, match="11 exceeds the 10 frames left of 12"):
        capture.split(11)


def test_scene_gives_coverage_and_no_depth(capture_directory, rendered):
    scene = CaptureScene(read_capture(capture_directory), (30, 44), "lact", (1.0, 1.0, 1.0))
    views = scene.read(np.array([3, 8]))
    np.testing.assert_allclose(views.mask, rendered["image"][[3, 8], ..., 3] / 255, atol=1e-6)
    assert views.depth is None


def test_photographs_have_no_mask(capture_directory):
    """Also a scene in which one frame of those read is a photograph."""
    path = capture_directory / "images" / "000003.png"
    capture = read_capture(capture_directory)
    assert capture.has_alpha()
    Image.open(path).convert("RGB").save(path)
    assert not capture.has_alpha()
    scene = CaptureScene(capture, (30, 44), "lact", (1.0, 1.0, 1.0))
    assert scene.read(np.array([3, 8])).mask is None
    assert scene.read(np.array([8])).mask is not None


def test_held_out_frames_are_those_of_the_file(capture_directory):
    for number in (0, 3):
        (capture_directory / "images" / f"{number:06d}.png").unlink()
    capture = read_capture(capture_directory, skip_missing=True)
    inputs, targets = capture.split(2)
    assert [capture.frames[target].name for target in targets] == ["images/000008.png"]
    assert not set(inputs) & set(targets)
    scene = CaptureScene(capture, (30, 44), "lact", (1.0, 1.0, 1.0), holdout_every=4)
    np.testing.assert_array_equal(capture.frame_numbers[scene.held_out], [4, 8])
    assert CaptureScene(capture, (8, 8), "lact", (1, 1, 1), holdout_every=0).held_out is None


def test_real_captures(shared):
    toy = read_capture(shared / "data" / "gso_toy")
    assert (len(toy), toy.image_size()) == (64, (512, 512))
    np.testing.assert_allclose(np.linalg.norm(toy.world_from_camera[:, :3, 3], axis=1), 2.7)
    image, _ = load_views(toy, [0, 63], 64, 64)
    np.testing.assert_allclose(image[:, 0, 0], 1.0)
    assert image.min() < 0.6
    desk = read_capture(shared / "data" / "mydesk")
    assert (len(desk), desk.name) == (498, "mydesk")
    inputs, targets = desk.split(32)
    assert len(inputs) == 32
    assert not set(inputs) & set(targets)
    image, cameras = load_views(desk, inputs[:2], 72, 128)
    assert 0.05 < image.mean() < 0.95
    np.testing.assert_allclose(cameras.intrinsics[0, 2:], [64, 36], atol=1.0)


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
def test_numbers_beyond_float64(capture_directory, fields, words):
    edit_frame(capture_directory, 3, **fields)
    with pytest.raises(InputError, match=rf"frame 3 .*{words}") as error:
        read_capture(capture_directory)
    assert len(str(error.value)) < 500


@pytest.mark.parametrize(
    ("lens", "words"),
    [
        ({"camera_model": "FULL_OPENCV", "k4": 0.1}, "camera_model=FULL_OPENCV"),
        ({"camera_model": "THIN_PRISM_FISHEYE"}, "camera_model=THIN_PRISM_FISHEYE"),
        ({"camera_model": None}, "camera_model=None"),
        ({"is_fisheye": True}, "is_fisheye=True"),
        ({"latlong": True}, "latlong=True"),
        ({"k6": -0.02}, "k6=-0.02"),
        ({"ftheta_p0": 0.0}, "ftheta_p0"),
    ],
)
def test_lenses_that_are_not_implemented_are_refused(capture_directory, lens, words):
    to_transforms(capture_directory, **lens)
    with pytest.raises(InputError, match=rf"{words}.*undistort the images first"):
        read_capture(capture_directory)


def test_what_other_lenses_leave_at_zero_is_accepted(capture_directory):
    before = read_capture(capture_directory)
    to_transforms(capture_directory, camera_model="OPENCV", is_fisheye=False, k5=0.0, k6=0)
    after = read_capture(capture_directory)
    np.testing.assert_array_equal(after.frames[3].intrinsics, before.frames[3].intrinsics)
    assert not after.frames[3].distortion


def test_image_names_without_suffix_may_hold_dots(capture_directory):
    before = load_views(read_capture(capture_directory), [2, 7], 16, 24)[0]
    to_transforms(capture_directory)
    images = capture_directory / "images"
    for number in range(12):
        (images / f"{number:06d}.png").rename(images / f"r_{number / 4}.png")

    def change(document):
        for number, frame in enumerate(document["frames"]):
            frame["file_path"] = f"./images/r_{number / 4}"

    edit(capture_directory, change, "transforms.json")
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
def test_file_names_that_name_no_file(capture_directory, name, words, transforms):
    if transforms:
        to_transforms(capture_directory)
    file = "transforms.json" if transforms else CAMERAS
    edit(capture_directory, lambda d: d["frames"][3].update(file_path=name), file)
    Image.new("RGB", (44, 30)).save(capture_directory.with_suffix(".png"))  # beside it
    with pytest.raises(InputError, match=words):
        read_capture(capture_directory)


@pytest.mark.parametrize("keep", [(), ("w", "h"), ("cx", "cy"), ("cx", "cy", "w", "h")])
def test_a_vertical_field_of_view_gives_both_focal_lengths(capture_directory, keep):
    before = read_capture(capture_directory)
    to_transforms(capture_directory)

    def change(document):
        for key in {"fl_x", "fl_y", "cx", "cy", "w", "h"} - set(keep):
            del document[key]
        document["camera_angle_y"] = 2 * np.arctan(15 / before.frames[0].intrinsics[1])

    edit(capture_directory, change, "transforms.json")
    lens = read_capture(capture_directory).frames[7].intrinsics
    np.testing.assert_allclose(lens, before.frames[7].intrinsics)


def test_a_vertical_field_of_view_beside_a_horizontal_focal_length(capture_directory):
    to_transforms(capture_directory, fl_y=None, camera_angle_y=2 * np.arctan(0.5))
    edit(capture_directory, lambda d: d.update(fl_x=70.0, fl_y=None), "transforms.json")
    lens = read_capture(capture_directory).frames[0].intrinsics
    np.testing.assert_allclose(lens[:2], [70.0, 30.0])


@pytest.mark.parametrize("angle", [0.0, 4.0, True, "wide"])
def test_a_field_of_view_that_is_none(capture_directory, angle):
    to_transforms(capture_directory)

    def change(document):
        del document["fl_x"], document["fl_y"], document["w"], document["cx"]
        document["camera_angle_y"] = angle

    edit(capture_directory, change, "transforms.json")
    with pytest.raises(InputError, match=r"\[None, None, 22\.0, 15\.0\] are not all finite"):
        read_capture(capture_directory)


def test_photographs_turned_by_exif(capture_directory):
    """Cameras belong to the stored pixels; the turned size is refused and EXIF named."""
    path = capture_directory / "images" / "000006.png"
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn for display
    stored = Image.open(path)
    before = load_views(read_capture(capture_directory), [6], 16, 24)[0]
    stored.save(path, exif=exif)
    np.testing.assert_array_equal(
        load_views(read_capture(capture_directory), [6], 16, 24)[0], before
    )
    edit_frame(capture_directory, 6, w=30, h=44)
    with pytest.raises(InputError, match=r"is 44x30 .* says 30x44; its EXIF orientation=6 is not"):
        load_views(read_capture(capture_directory), [6], 16, 24)
    stored.save(path)
    with pytest.raises(InputError, match=r"says 30x44; resize the image") as error:
        load_views(read_capture(capture_directory), [6], 16, 24)
    assert "EXIF" not in str(error.value)


def test_coincident_cameras_still_give_distinct_inputs(capture_directory):
    def change(document):
        for frame in document["frames"]:
            frame["w2c"] = document["frames"][0]["w2c"]

    edit(capture_directory, change)
    inputs, targets = read_capture(capture_directory).split(4)
    assert len(set(inputs)) == 4
    assert not set(inputs) & set(targets)
