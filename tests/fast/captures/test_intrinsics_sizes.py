"""Intrinsics of pictures of another size are recognised by their principal point, or scaled."""

import numpy as np
import pytest
from PIL import Image

from tttlrm_jax.captures.capture import load_views, read_capture
from tttlrm_jax.captures.lenses.sizes import intrinsics_for, size_factors, size_problem
from tttlrm_jax.core.errors import InputError


@pytest.mark.parametrize(
    ("centre", "expected"),
    [
        ((32, 24), None), ((36, 27), None), ((30, 22), None), ((60, 24), None), ((20, 40), None),
        ((63, 49), (2, 2)), ((129, 95), (4, 4)), ((42.6, 32), (4 / 3, 4 / 3)),
        ((16, 12), (0.5, 0.5)), ((8.1, 6), (0.25, 0.25)), ((48, 36), (1.5, 1.5)),
        ((96, 48), (3, 2)), ((0, 0), None),        ((np.nan, 24), None), ((-64, -48), None),
    ],
)  # fmt: skip
def test_factors_of_a_principal_point(centre, expected):
    """Of pictures of 64 x 48 pixels."""
    found = size_factors(np.array([50.0, 50.0, *centre]), (48, 64))
    assert (found is None) == (expected is None)
    if expected is not None:
        np.testing.assert_allclose(found, expected, rtol=0.01)


def scaled(camera_file, factor, transforms, keep_size=False):
    names = ("fl_x", "fl_y", "cx", "cy") if transforms else ("fx", "fy", "cx", "cy")
    if transforms:
        camera_file.to_transforms(shared_intrinsics=False)

    def change(document):
        for frame in document["frames"]:
            for name in names:
                frame[name] *= factor
            for name in ("w", "h"):
                if keep_size:
                    frame[name] = round(frame[name] * factor)
                else:
                    del frame[name]

    camera_file.edit(change)


@pytest.mark.parametrize("transforms", [False, True])
@pytest.mark.parametrize("factor", [4, 2, 0.5])
def test_lenses_of_another_size_are_refused_or_scaled(
    capture_directory, camera_file, transforms, factor
):
    before = load_views(read_capture(capture_directory), [3, 7], 16, 24)
    scaled(camera_file, factor, transforms)
    capture = read_capture(capture_directory)
    words = f"principal point .*of pictures {factor:g} times as large; .*scale {1 / factor:g} "
    for use in (lambda: load_views(capture, [3], 16, 24), capture.image_size):
        with pytest.raises(InputError, match=words):
            use()
    after = read_capture(capture_directory, intrinsics_scale=1 / factor)
    images, cameras = load_views(after, [3, 7], 16, 24)
    np.testing.assert_array_equal(images, before[0])
    np.testing.assert_allclose(cameras.intrinsics, before[1].intrinsics, rtol=1e-12)
    assert "intrinsics of the file are multiplied" in after.notes[0]


def test_a_scale_of_one_takes_them_as_they_are(capture_directory, camera_file):
    scaled(camera_file, 2, False)
    doubled = read_capture(capture_directory).frames[3].intrinsics
    capture = read_capture(capture_directory, intrinsics_scale=1.0)
    cameras = load_views(capture, [3], 30, 44)[1]
    np.testing.assert_array_equal(cameras.intrinsics[0], doubled)


def test_a_stated_size_is_scaled_along(capture_directory, camera_file):
    before = load_views(read_capture(capture_directory), [3], 30, 44)[1]
    scaled(camera_file, 3, False, keep_size=True)
    with pytest.raises(InputError, match=r"or give --intrinsics-scale 0\.333333"):
        load_views(read_capture(capture_directory), [3], 30, 44)
    capture = read_capture(capture_directory, intrinsics_scale=1 / 3)
    np.testing.assert_allclose(load_views(capture, [3], 30, 44)[1].intrinsics, before.intrinsics)
    with pytest.raises(InputError, match=r"132x90 times --intrinsics-scale 0\.5 is not; correct"):
        read_capture(capture_directory, intrinsics_scale=0.5)


def test_a_centre_that_the_file_leaves_out_is_not_scaled(capture_directory, camera_file):
    camera_file.to_transforms()
    for key in ("w", "h", "cx", "cy"):
        camera_file.edit(lambda document, key=key: document.update({key: None}))
    before = read_capture(capture_directory).frames[3].intrinsics
    after = read_capture(capture_directory, intrinsics_scale=0.5).frames[3].intrinsics
    np.testing.assert_allclose(after, before * [0.5, 0.5, 1, 1])


@pytest.mark.parametrize("given", [("fl_x", "fl_y"), ("cx", "cy")])
def test_a_field_of_view_beside_lengths_of_another_size(capture_directory, camera_file, given):
    """The angle is free of size; what else the file gives is for pictures twice as large."""
    before = read_capture(capture_directory).frames[3].intrinsics
    camera_file.to_transforms()
    lens = dict(zip(("fl_x", "fl_y", "cx", "cy"), 2 * before, strict=True))
    angle = 2 * np.arctan(22 / before[0])
    wanted = {key: lens[key] if key in given else None for key in lens}
    camera_file.edit(lambda d: d.update(wanted | {"w": None, "h": None, "camera_angle_x": angle}))
    with pytest.raises(InputError, match="of pictures 2 times as large"):
        load_views(read_capture(capture_directory), [3], 16, 16)
    scaled = read_capture(capture_directory, intrinsics_scale=0.5).frames[3].intrinsics
    np.testing.assert_allclose(scaled, before, rtol=1e-6)


def test_pictures_of_other_proportions(capture_directory, camera_file):
    scaled(camera_file, 4, False)
    for path in (capture_directory / "images").iterdir():
        Image.open(path).resize((20, 30)).save(path)
    with pytest.raises(InputError, match=r"8\.8 times as wide and 4 times as high"):
        load_views(read_capture(capture_directory), [3], 16, 16)


@pytest.mark.parametrize(
    ("centre", "refused"),
    [
        ((24, 32), True), ((25, 31), True), ((32, 24), False), ((24, 24), False),
        ((28, 28), False), ((1e308, 1e308), False), ((np.nan, 32), False), ((24, -32), False),
    ],
)  # fmt: skip
def test_pictures_that_were_turned(centre, refused):
    """Of 64 x 48 pixels, with the lens of the same ones upright."""
    problem = size_problem(np.array([50.0, 50.0, *centre]), (48, 64))
    assert (problem is not None and "turned by 90 degrees" in problem) == refused


def test_intrinsics_of_sequences():
    lens = np.array([100.0, 100.0, 64.0, 48.0])
    assert intrinsics_for(None, (48, 64), None) == (None, None)
    assert intrinsics_for(lens, (96, 128), None) == (pytest.approx(lens), None)
    none, problem = intrinsics_for(lens, (48, 64), None)
    assert none is None
    assert "--intrinsics-scale 0.5" in problem
    assert intrinsics_for(lens, (48, 64), 0.5) == (pytest.approx(lens / 2), None)
