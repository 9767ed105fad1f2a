"""Quaternions to matrices: hand cases, orthogonality, guarded singular point."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tttlrm_jax.core.geometry.rotations import (
    quaternion_from_rotation,
    rotation_from_quaternion,
    rotation_from_unit_quaternion,
    slerp,
)
from tttlrm_jax.procedural.appearance.textures import random_rotation

EXACT = 1e-12


@pytest.mark.parametrize(
    ("quaternion", "moved"),
    [
        ([1, 0, 0, 0], [1, 2, 3]),
        ([np.cos(np.pi / 4), 0, 0, np.sin(np.pi / 4)], [-2, 1, 3]),  # a quarter turn about z
        ([np.cos(np.pi / 4), np.sin(np.pi / 4), 0, 0], [1, -3, 2]),  # about x
        ([0, 0, 5, 0], [-1, 2, -3]),  # half a turn about y, length 5
    ],
)
def test_moves_a_point(quaternion, moved):
    rotation = rotation_from_quaternion(jnp.asarray(quaternion, jnp.float32))
    np.testing.assert_allclose(rotation @ jnp.asarray([1.0, 2.0, 3.0]), moved, atol=1e-6)


def test_orthonormal_whatever_the_length():
    quaternion = np.random.default_rng(0).normal(size=(5, 4, 4)).astype(np.float32)
    lengths = np.array([1e-25, 1e-3, 1.0, 1e25], np.float32)[None, :, None]
    rotation = np.asarray(rotation_from_quaternion(jnp.asarray(quaternion * lengths)))
    identity = np.broadcast_to(np.eye(3), rotation.shape)
    np.testing.assert_allclose(np.swapaxes(rotation, -1, -2) @ rotation, identity, atol=1e-6)
    np.testing.assert_allclose(np.linalg.det(rotation), 1, atol=1e-6)


def test_length_zero_is_identity_without_derivative():
    zero = jnp.zeros(4)
    np.testing.assert_array_equal(rotation_from_quaternion(zero), np.eye(3))
    jacobian = jax.jacobian(rotation_from_quaternion)(zero)
    np.testing.assert_array_equal(jacobian, 0)


def test_derivative_ignores_the_length():
    """Along the quaternion itself nothing turns."""
    quaternion = jnp.asarray([0.3, -0.2, 0.9, 0.4])
    _, tangent = jax.jvp(rotation_from_quaternion, (quaternion,), (quaternion,))
    np.testing.assert_allclose(tangent, 0, atol=1e-6)


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
    np.testing.assert_allclose(rotation_from_unit_quaternion(quaternion), rotations, atol=EXACT)


@pytest.mark.parametrize("angle", [2.0, 1e-4, 1e-12, 0.0])
def test_slerp_turns_evenly(angle):
    fraction = np.array([0.0, 0.25, 1.0])
    out = slerp(about_z(0.3), about_z(0.3 + angle), fraction)
    expected = np.stack([about_z(0.3 + f * angle) for f in fraction])
    np.testing.assert_allclose(out, expected, atol=EXACT)


def test_slerp_takes_the_shorter_arc():
    out = slerp(about_z(0.2), -about_z(0.6), 0.5)
    np.testing.assert_allclose(out, about_z(0.4), atol=EXACT)
