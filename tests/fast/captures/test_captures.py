import dataclasses

import numpy as np
import pytest
from PIL import Image

from tttlrm_jax.captures.capture import CaptureScene, load_views, read_capture
from tttlrm_jax.captures.pictures import frame_pixels
from tttlrm_jax.core.errors import InputError


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


def test_cameras_of_pictures_of_one_size_are_together(capture_directory):
    capture = read_capture(capture_directory)
    odd = dataclasses.replace(capture.frames[5], size=(60, 88))
    frames = (*capture.frames[:5], odd, *capture.frames[6:])
    groups = dataclasses.replace(capture, frames=frames).cameras_by_size()
    assert [(each.height, each.width, len(each.intrinsics)) for each in groups] == [
        (30, 44, 11), (60, 88, 1)
    ]  # fmt: skip
    np.testing.assert_array_equal(groups[1].world_from_camera[0], odd.world_from_camera)


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
    original = frame_pixels.read_image
    monkeypatch.setattr(
        frame_pixels, "read_image", lambda path: seen.append(path) or original(path)
    )
    for number in (2, 3):
        (capture_directory / "images" / f"{number:06d}.png").write_bytes(b"broken")
    load_views(read_capture(capture_directory), [5, 0], 16, 16)
    assert [path.name for path in seen] == ["000005.png", "000000.png"]


def test_prescribed_inputs_win(capture_directory, camera_file):
    camera_file.edit(
        lambda d: d.update({"fold_8_kmeans_3_input": [1, 5, 7], "fold_8_kmeans_2_input": [1, 8]}),
    )
    capture = read_capture(capture_directory)
    inputs, targets = capture.split(3)
    np.testing.assert_array_equal(inputs, [1, 5, 7])
    np.testing.assert_array_equal(targets, [0, 8])
    assert len(capture.split(4)[0]) == 4
    with pytest.raises(InputError, match=r"fold_8_kmeans_2_input.*\[8\].*targets"):
        capture.split(2)


def test_distorted_transforms_are_undistorted(capture_directory, camera_file):
    camera_file.to_transforms()
    plain = load_views(read_capture(capture_directory), [2], 30, 44)[0]
    camera_file.edit(lambda d: d.update({"k1": 0.0, "p2": 0.0}))
    zero = load_views(read_capture(capture_directory), [2], 30, 44)[0]
    camera_file.edit(lambda d: d.update({"k1": -0.3}))
    bent = load_views(read_capture(capture_directory), [2], 30, 44)[0]
    np.testing.assert_array_equal(plain, zero)
    assert np.abs(plain - bent).max() > 0.1


def test_missing_images_are_named_together_or_skipped(capture_directory, camera_file):
    camera_file.edit(
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


def test_unknown_layouts_say_what_is_known(tmp_path):
    with pytest.raises(InputError, match=r"opencv_cameras\.json or transforms\.json"):
        read_capture(tmp_path)
    with pytest.raises(InputError, match="is not a directory"):
        read_capture(tmp_path / "nowhere")


def test_a_folder_of_captures_is_told_from_a_capture(capture_directory):
    with pytest.raises(InputError, match="it is a folder of captures: name one"):
        read_capture(capture_directory.parent)
    (capture_directory.parent / "empty").mkdir()
    with pytest.raises(InputError, match="export the cameras to one of them"):
        read_capture(capture_directory.parent / "empty")


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


def test_photographs_turned_by_exif(capture_directory, camera_file):
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
    camera_file.edit_frame(6, w=30, h=44)
    with pytest.raises(InputError, match=r"is 44x30 .* says 30x44; its EXIF orientation=6 is not"):
        load_views(read_capture(capture_directory), [6], 16, 24)
    stored.save(path)
    with pytest.raises(InputError, match=r"says 30x44; resize the image") as error:
        load_views(read_capture(capture_directory), [6], 16, 24)
    assert "EXIF" not in str(error.value)


def test_coincident_cameras_still_give_distinct_inputs(capture_directory, camera_file):
    def change(document):
        for frame in document["frames"]:
            frame["w2c"] = document["frames"][0]["w2c"]

    camera_file.edit(change)
    inputs, targets = read_capture(capture_directory).split(4)
    assert len(set(inputs)) == 4
    assert not set(inputs) & set(targets)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"fx": 5e-324}, r"focal lengths .* are not between 0\.001 and 1e\+09 pixels"),
        ({"cy": 1e300}, r"centre .* is beyond 1e\+09 pixels"),
        ({"w2c": [[1, 0, 0, 1e200], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]}, "w2c has entries"),
    ],
)
def test_values_that_no_camera_has(capture_directory, camera_file, fields, words):
    camera_file.edit_frame(3, **fields)
    with pytest.raises(InputError, match=rf"frame 3 .*{words}"):
        read_capture(capture_directory)


def test_distortion_that_no_lens_has(capture_directory, camera_file):
    camera_file.to_transforms(k1=1e200)
    with pytest.raises(InputError, match=r"frame 0 .*coefficients beyond 1e\+12"):
        read_capture(capture_directory)
