import numpy as np
import pytest

from tttlrm_jax.captures.lenses.distortion import IDEAL_LENS, Distortion, distort, undistort

LENS = np.array([60.0, 55.0, 41.0, 29.0])


def pattern(x, y):
    """A smooth picture on the plane z = 1."""
    return np.stack([np.sin(3 * x + 1), np.cos(4 * y), np.sin(2 * x - 3 * y)], -1)


def photograph(distortion, height=60, width=80):
    """What a camera with this distortion sees of the pattern (inverse by fixed point)."""
    row, column = np.mgrid[:height, :width] + 0.5
    seen_x, seen_y = (column - LENS[2]) / LENS[0], (row - LENS[3]) / LENS[1]
    x, y = seen_x, seen_y
    for _ in range(60):
        there_x, there_y = distort(x, y, distortion)
        x, y = x + seen_x - there_x, y + seen_y - there_y
    return np.rint(127.5 * (1 + pattern(x, y))).astype(np.uint8)


@pytest.mark.parametrize(
    "distortion",
    [
        Distortion(k1=-0.12),
        Distortion(k1=-0.1, k2=0.03, p1=0.004, p2=-0.006),
        Distortion(k1=-0.12, k3=-0.02, k4=0.01),
    ],
)
def test_undistorted_picture_is_the_pinholes(distortion):
    ideal = photograph(IDEAL_LENS).astype(int)
    bent = photograph(distortion)
    straight = undistort(bent, LENS, distortion)[..., :3].astype(int)
    assert np.abs(bent.astype(int) - ideal).max() > 20
    assert np.abs(straight - ideal)[3:-3, 3:-3].max() <= 3


def test_coefficients_by_hand():
    x, y = distort(np.array(0.5), np.array(-0.2), Distortion(k1=0.1, k2=0.2, p1=0.01, p2=0.02))
    squared = 0.29
    radial = 1 + 0.1 * squared + 0.2 * squared**2
    assert x == pytest.approx(0.5 * radial - 2 * 0.01 * 0.1 + 0.02 * (squared + 0.5))
    assert y == pytest.approx(-0.2 * radial - 2 * 0.02 * 0.1 + 0.01 * (squared + 0.08))


def test_no_distortion_keeps_every_pixel():
    image = np.random.default_rng(0).integers(0, 256, (13, 17, 4)).astype(np.uint8)
    straight = undistort(image, LENS, IDEAL_LENS)
    np.testing.assert_array_equal(straight[..., 3], image[..., 3])
    seen = image[..., 3] > 0
    np.testing.assert_array_equal(straight[seen], image[seen])
    opaque = undistort(image[..., :3], LENS, IDEAL_LENS)
    np.testing.assert_array_equal(opaque[..., :3], image[..., :3])
    assert (opaque[..., 3] == 255).all()
    assert not IDEAL_LENS
    assert Distortion(p2=1e-3)
