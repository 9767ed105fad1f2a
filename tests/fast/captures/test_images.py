import numpy as np
import pytest
from PIL import Image

from tttlrm_jax.captures.pictures.images import (
    composite,
    flatten,
    image_size,
    read_image,
    resize,
    round_to_patch,
)
from tttlrm_jax.core.errors import InputError

LENS = np.array([50.0, 40.0, 21.0, 13.0])


def ramp(height, width):
    """A picture linear in x (red) and y (green): resampling keeps it but for borders."""
    y, x = np.mgrid[:height, :width] + 0.5
    return np.stack([255 * x / width, 255 * y / height, np.zeros_like(x)], -1).astype(np.uint8)


@pytest.mark.parametrize(
    ("mode", "channels"), [("RGB", 3), ("RGBA", 4), ("L", 3), ("LA", 4), ("P", 3)]
)
def test_any_mode_becomes_rgb_or_rgba(tmp_path, mode, channels):
    Image.new(mode, (7, 5)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").shape == (5, 7, channels)
    assert image_size(tmp_path / "a.png") == (5, 7)


def test_sixteen_bit_grey_keeps_its_brightness(tmp_path):
    Image.fromarray(np.full((3, 4), 32896, np.uint16)).save(tmp_path / "deep.png")
    np.testing.assert_array_equal(read_image(tmp_path / "deep.png"), np.full((3, 4, 3), 128))


def test_missing_truncated_and_foreign_files_are_one_sentence(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (40, 40, 3)).astype(np.uint8)
    for suffix in ("png", "jpg"):
        whole = tmp_path / f"whole.{suffix}"
        Image.fromarray(noise).save(whole)
        cut = tmp_path / f"cut.{suffix}"
        cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
        with pytest.raises(InputError, match=rf"cut\.{suffix} cannot be decoded.*truncated"):
            read_image(cut)
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "empty.png").write_bytes(b"")
    for name in ("text.png", "empty.png"):
        with pytest.raises(InputError, match="cannot be decoded"):
            read_image(tmp_path / name)
    for use in (read_image, image_size):
        with pytest.raises(InputError, match="does not exist"):
            use(tmp_path / "none.png")


def test_compositing_by_hand():
    image = np.array([[[255, 0, 0, 255], [255, 0, 0, 51], [9, 9, 9, 0]]], np.uint8)
    colour, alpha = composite(image, (0.0, 1.0, 0.5))
    np.testing.assert_allclose(alpha, [[1, 0.2, 0]], atol=1e-6)
    np.testing.assert_allclose(colour, [[[1, 0, 0], [0.2, 0.8, 0.4], [0, 1, 0.5]]], atol=1e-6)
    assert colour.dtype == alpha.dtype == np.float32
    np.testing.assert_array_equal(flatten(image)[0, 2], [255, 255, 255])
    opaque, coverage = composite(image[..., :3])
    np.testing.assert_allclose(opaque[0, 2], 9 / 255)
    assert (coverage == 1).all()


@pytest.mark.parametrize("size", [(30, 42), (8, 40), (64, 24), (31, 41)])
@pytest.mark.parametrize("mode", ["tttlrm", "lact"])
def test_intrinsics_follow_the_pixels(size, mode):
    """Red tells where a pixel's centre lay in the original; the camera ray must be unchanged."""
    height, width = 60, 84
    image, lens = resize(ramp(height, width), LENS, size, mode)
    assert image.shape == (*size, 3)
    row, column = size[0] // 2, size[1] // 2
    x, y = image[row, column, 0] / 255 * width, image[row, column, 1] / 255 * height
    new = ((column + 0.5 - lens[2]) / lens[0], (row + 0.5 - lens[3]) / lens[1])
    old = ((x - LENS[2]) / LENS[0], (y - LENS[3]) / LENS[1])
    np.testing.assert_allclose(new, old, atol=0.02)


def test_lact_resize_is_isotropic_and_crops_the_middle():
    image, lens = resize(ramp(60, 84), LENS, (30, 30), "lact")
    np.testing.assert_allclose(lens[:2], LENS[:2] / 2)
    np.testing.assert_allclose(lens[2:], [LENS[2] / 2 - 6, LENS[3] / 2])
    assert abs(image[0, 0, 0] - 255 * 12.5 / 84) < 4


def test_same_size_changes_nothing():
    for mode in ("tttlrm", "lact"):
        image, lens = resize(ramp(24, 40), LENS, (24, 40), mode)
        np.testing.assert_array_equal(image, ramp(24, 40))
        np.testing.assert_array_equal(lens, LENS)


def test_unknown_mode():
    with pytest.raises(InputError, match="tttlrm or lact"):
        resize(ramp(8, 8), LENS, (4, 4), "bicubic")


def test_sizes_round_to_whole_patches():
    assert round_to_patch(360, 640, 8) == (360, 640)
    assert round_to_patch(144.0, 256.4, 14) == (140, 252)
    assert round_to_patch(2, 21, 8) == (8, 24)


def test_sixteen_bit_grey_of_every_byte_order_keeps_its_range(tmp_path):
    levels = np.array([[0, 257, 32896], [65278, 65535, 128]], np.uint16)
    expected = np.array([[0, 1, 128], [254, 255, 0]])
    for name, pixels in (
        ("a.png", levels), ("a.tif", levels), ("a.pgm", levels), ("big.tif", levels.astype(">u2")),
    ):  # fmt: skip
        Image.fromarray(pixels).save(tmp_path / name)
        np.testing.assert_array_equal(read_image(tmp_path / name)[..., 0], expected)


@pytest.mark.parametrize(
    ("kind", "words"), [("f4", "holds floats"), ("i4", "holds 32-bit integers")]
)
def test_pixels_of_unknown_range_are_refused(tmp_path, kind, words):
    for level in (1, 70_000):
        Image.fromarray(np.full((3, 4), level, kind)).save(tmp_path / "deep.tif")
        with pytest.raises(InputError, match=rf"deep\.tif {words}.*8 or 16 bits") as error:
            read_image(tmp_path / "deep.tif")
        assert "cannot be decoded" not in str(error.value)


def test_a_format_that_is_not_read_is_named(tmp_path):
    (tmp_path / "a.HEIC").write_bytes(b"\0\0\0\x18ftypheic" + b"\0" * 100)
    with pytest.raises(InputError, match="HEIC is not read here: convert such pictures"):
        read_image(tmp_path / "a.HEIC")
