"""Captures far from their origin: positions relative to an offset, near ones as they are."""

import numpy as np
import pytest

from tttlrm_jax.core.arrays import on_device
from tttlrm_jax.core.geometry.offsets import into_capture, moved_poses, offset_of, offset_text
from tttlrm_jax.core.geometry.poses import look_at, normalise_poses
from tttlrm_jax.core.geometry.similarity import transform_gaussians
from tttlrm_jax.core.types import Gaussians

UTM = np.array([431234.56789, 5412345.6789, 312.3])


def ring(place=(0.0, 0.0, 0.0), size=2.0, count=12):
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    centre = size * np.stack([np.cos(angle), np.sin(angle), 0.2 + 0 * angle], axis=1)
    return look_at(centre + place, np.asarray(place, float), np.array([0.0, 0.0, 1.0]))


def gaussians(count=50, seed=0):
    rng = np.random.default_rng(seed)
    shapes = ((3,), (1, 3), (3,), (4,), ())
    return Gaussians(*(on_device(rng.normal(size=(count, *s)), np.float32) for s in shapes))


@pytest.mark.parametrize("method", ["mean_cam", "first_cam", "focus"])
@pytest.mark.parametrize("size", [1e-3, 2.0, 300.0])
def test_positions_of_a_map_keep_their_precision(method, size):
    """As near to float64 as at the origin, which float32 coordinates are not."""
    similarity = normalise_poses(ring(UTM, size), method)[1]
    offset = offset_of(similarity)
    assert np.abs(offset - UTM).max() <= 2 * size
    predicted = gaussians()
    made = transform_gaussians(predicted, into_capture(similarity, offset)).mean
    expected = similarity.inverse().apply_points(np.asarray(predicted.mean, np.float64))
    error = np.abs(np.asarray(made, np.float64) + offset - expected).max()
    assert error < 1e-5 * size + 1e-8  # the latter: float64 at 5e6
    if size < 10:
        lost = np.abs(expected.astype(np.float32) - expected).max()
        assert lost > 30 * error


@pytest.mark.parametrize("place", [(0.0, 0.0, 0.0), (50.0, -20.0, 1.0), (150.0, 0.0, 0.0)])
def test_near_captures_are_as_they_were(place):
    similarity = normalise_poses(ring(place))[1]
    offset = offset_of(similarity)
    assert offset.tolist() == [0, 0, 0]
    before = transform_gaussians(gaussians(), similarity.inverse())
    after = transform_gaussians(gaussians(), into_capture(similarity, offset))
    np.testing.assert_array_equal(before.mean, after.mean)


def test_an_offset_has_few_decimals_and_survives_as_text():
    for size, wanted in ((2.0, "431235 5412346 313"), (30.0, "431230 5412350 320")):
        text = offset_text(offset_of(normalise_poses(ring(UTM, size))[1]))
        assert text == wanted
    offset = offset_of(normalise_poses(ring(-UTM, 0.05))[1])
    assert [float(word) for word in offset_text(offset).split()] == offset.tolist()
    assert "e" not in offset_text(np.array([1e16, -1e-7, 0.0]))


def test_moved_poses_keep_what_is_given():
    poses = ring(UTM)
    moved = moved_poses(poses, UTM)
    np.testing.assert_allclose(moved[:, :3, 3], ring()[:, :3, 3], atol=1e-8)
    np.testing.assert_array_equal(moved[:, :3, :3], poses[:, :3, :3])
    assert np.abs(poses[:, :3, 3]).max() > 1e6
