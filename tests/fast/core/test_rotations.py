"""Quaternions to matrices: hand cases, orthogonality, guarded singular point."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tttlrm_jax.core.geometry.rotations import rotation_from_quaternion


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
