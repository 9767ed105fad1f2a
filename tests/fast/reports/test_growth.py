import numpy as np
import pytest

from tttlrm_jax.reports.growth import (
    GrowthFilm,
    GrowthMoment,
    growth_still,
    reduced,
    with_orbit,
)
from tttlrm_jax.reports.sheet import MAX_CELL, fitted


def film(count=6, size=(16, 24), already_seen=0):
    rng = np.random.default_rng(0)
    return GrowthFilm(
        title="scene", target_name="a/very/long/path/" * 8 + "frame.png",
        target=rng.uniform(size=(*size, 3)).astype(np.float32),
        inputs=list(rng.uniform(size=(count, *size, 3)).astype(np.float32)),
        already_seen=already_seen,
    )  # fmt: skip


def moment(seen, newest=2, size=(16, 24)):
    return GrowthMoment(seen=seen, newest=newest, psnr=12.3, rendered=np.zeros((*size, 3)))


@pytest.mark.parametrize("size", [(16, 24), (64, 64), (360, 640), (900, 300)])
def test_frames_have_one_size_whatever_was_seen(size):
    shown = film(5, size)
    orbit = np.zeros((256, 300, 3), np.uint8)
    frames = [with_orbit(growth_still(shown, moment(s, 1, size)), orbit, shown) for s in (1, 3, 5)]
    assert len({frame.shape for frame in frames}) == 1
    assert all(frame.dtype == np.uint8 for frame in frames)
    assert np.abs(frames[0].astype(int) - frames[1]).max() > 50
    assert max(shown.cell) <= max(MAX_CELL, 2 * max(size))


def test_bar_and_thumbnails_show_how_far_the_stream_is():
    shown = film()
    accent = np.array([0x0F, 0x76, 0x6E])

    def bar(seen):
        last_rows = growth_still(shown, moment(seen))[-30:-25].astype(int)
        return (np.abs(last_rows - accent).max(axis=-1) < 20).mean()

    assert bar(6) == pytest.approx(3 * bar(2), rel=0.1)
    resumed = film(already_seen=6)
    last_rows = growth_still(resumed, moment(12))[-30:-25].astype(int)
    assert (np.abs(last_rows - accent).max(axis=-1) < 20).mean() == pytest.approx(bar(6), rel=0.01)


@pytest.mark.parametrize("count", [1, 33, 512])
def test_few_and_many_views(count):
    picture = growth_still(film(count), moment(count, 1))
    assert picture.std() > 5


def test_pictures_are_enlarged_by_pixels_or_reduced():
    shown = film()
    pixels = (shown.target * 255).round().astype(np.uint8)
    height, width = shown.cell
    large = fitted(pixels, shown.cell)
    assert large.shape == (height, width, 3)
    np.testing.assert_array_equal(large[:: height // 16, :: width // 24], pixels)
    assert reduced(pixels) is pixels
    assert max(reduced(np.zeros((540, 960, 3), np.uint8)).shape) == MAX_CELL
