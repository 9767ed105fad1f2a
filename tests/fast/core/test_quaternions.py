import numpy as np
import pytest

from tttlrm_jax.core.geometry.quaternions import (
    quaternion_from_rotation,
    rotation_from_quaternion,
    slerp,
)
from tttlrm_jax.procedural.appearance.textures import random_rotation

EXACT = 1e-12


def about_z(angle):
    return np.array([np.cos(angle / 2), 0.0, 0.0, np.sin(angle / 2)])


def test_quarter_turn_by_hand():
    rotation = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    np.testing.assert_allclose(quaternion_from_rotation(rotation), about_z(np.pi / 2), atol=EXACT)


def test_round_trip_over_leading_axes_including_half_turns():
    rng = np.random.default_rng(0)
    rotations = [random_rotation(rng) for _ in range(9)]
    rotations += [np.diag(d) for d in ([1.0, -1, -1], [-1.0, 1, -1], [-1.0, -1, 1])]
    rotations = np.stack(rotations).reshape(3, 4, 3, 3)
    quaternion = quaternion_from_rotation(rotations)
    assert (quaternion[..., 0] >= 0).all()
    np.testing.assert_allclose(rotation_from_quaternion(quaternion), rotations, atol=EXACT)


@pytest.mark.parametrize("angle", [2.0, 1e-4, 1e-12, 0.0])
def test_slerp_turns_evenly(angle):
    fraction = np.array([0.0, 0.25, 1.0])
    out = slerp(about_z(0.3), about_z(0.3 + angle), fraction)
    expected = np.stack([about_z(0.3 + f * angle) for f in fraction])
    np.testing.assert_allclose(out, expected, atol=EXACT)


def test_slerp_takes_the_shorter_arc():
    out = slerp(about_z(0.2), -about_z(0.6), 0.5)
    np.testing.assert_allclose(out, about_z(0.4), atol=EXACT)
