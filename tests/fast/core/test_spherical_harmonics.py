"""Spherical harmonics: orthonormal on the sphere, signs by hand, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tttlrm_jax.core.arrays import on_device
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.geometry.spherical_harmonics import evaluate_sh, sh_basis, sh_degree


def test_orthonormal():
    """Gauss-Legendre in z times a uniform grid in angle integrates degree 8 exactly."""
    z, weight = np.polynomial.legendre.leggauss(12)
    angle = np.arange(24) * 2 * np.pi / 24
    radius = np.sqrt(1 - z**2)[:, None]
    grid = [radius * np.cos(angle), radius * np.sin(angle), np.broadcast_to(z[:, None], (12, 24))]
    direction = np.stack(grid, axis=-1)
    with jax.enable_x64(True):
        basis = np.asarray(sh_basis(jnp.asarray(direction), 4))
    gram = np.einsum("ijk,ijl,i->kl", basis, basis, weight * 2 * np.pi / 24)
    np.testing.assert_allclose(gram, np.eye(25), atol=1e-9)


def test_order_and_signs():
    """First coefficients are constant, -y, z, -x; degree 2 starts with xy."""
    basis = np.asarray(sh_basis(jnp.eye(3), 2))
    linear = np.sqrt(3 / (4 * np.pi))
    np.testing.assert_allclose(basis[:, 0], np.sqrt(1 / (4 * np.pi)), rtol=1e-6)
    np.testing.assert_allclose(
        basis[:, 1:4], linear * np.array([[0, 0, -1], [-1, 0, 0], [0, 1, 0]])
    )
    diagonal = np.asarray(sh_basis(jnp.asarray([1.0, 1.0, 0.0]), 2))
    np.testing.assert_allclose(diagonal[4], np.sqrt(15 / (4 * np.pi)) / 2, rtol=1e-6)


@pytest.mark.parametrize("length", [1e-20, 1.0, 1e20])
def test_length_does_not_matter(length):
    rng = np.random.default_rng(0)
    coefficients = on_device(rng.normal(size=(7, 16, 3)), np.float32)
    direction = on_device(rng.normal(size=(7, 3)), np.float32)
    expected = evaluate_sh(coefficients, direction)
    np.testing.assert_allclose(evaluate_sh(coefficients, direction * length), expected, atol=1e-5)


def test_zero_direction_is_finite():
    coefficients = jnp.ones((25, 2))
    jacobian = jax.jacobian(lambda d: evaluate_sh(coefficients, d))(jnp.zeros(3))
    np.testing.assert_array_equal(jacobian, 0)


def test_wrong_count():
    with pytest.raises(InputError, match=r"coefficients=5 .*use one of \[1, 4, 9, 16, 25\]"):
        sh_degree(5)
