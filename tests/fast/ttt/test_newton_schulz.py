"""Newton-Schulz on matrices whose singular vectors are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.fast.cutting import cut
from tttlrm_jax import ttt
from tttlrm_jax.core.arrays import on_device
from tttlrm_jax.ttt.newton_schulz import QUINTIC

newton_schulz = jax.jit(ttt.newton_schulz, static_argnums=(1, 2))


def scalar_iteration(value: float, steps: int) -> float:
    """What one singular value becomes."""
    ((a, b, c),) = QUINTIC
    for _ in range(steps):
        value = a * value + b * value**3 + c * value**5
    return value


@pytest.mark.parametrize("steps", [0, 1, 5])
@pytest.mark.parametrize("shape", [(2, 3), (3, 2), (2, 2)])
def test_moves_singular_values_and_keeps_vectors(steps, shape):
    matrix = np.zeros(shape, np.float32)
    matrix[0, 0], matrix[1, 1] = 3.0, 4.0  # Frobenius norm 5
    out = np.asarray(newton_schulz(jnp.asarray(matrix), steps, jnp.float32))
    expected = np.zeros(shape)
    expected[0, 0], expected[1, 1] = (scalar_iteration(s, steps) for s in (0.6, 0.8))
    np.testing.assert_allclose(out, expected, atol=2e-6)


def test_five_steps_bring_singular_values_near_one():
    matrix = on_device(np.random.default_rng(0).standard_normal((4, 6, 10)), np.float32)
    singular = np.linalg.svd(newton_schulz(matrix, 5, jnp.float32), compute_uv=False)
    assert singular.min() > 0.6
    assert singular.max() < 1.3


def test_scale_does_not_matter_but_zero_stays_zero():
    matrix = on_device(np.random.default_rng(1).standard_normal((3, 5)), np.float32)
    once, scaled = (newton_schulz(factor * matrix, 5, jnp.float32) for factor in (1.0, 1e3))
    np.testing.assert_allclose(once, scaled, atol=1e-5)
    zero = jnp.zeros((3, 5), jnp.float32)
    out, pull = jax.vjp(lambda m: newton_schulz(m, 5, jnp.float32), zero)
    assert not np.any(out)
    assert np.all(np.isfinite(pull(jnp.ones_like(out))[0]))


@pytest.mark.parametrize("shape", [(3, 7), (7, 3)])
def test_commutes_with_transposition_and_batches(shape):
    matrix = on_device(np.random.default_rng(2).standard_normal((2, *shape)), np.float32)
    out = newton_schulz(matrix, 5, jnp.bfloat16)
    turned = newton_schulz(jnp.swapaxes(matrix, 1, 2), 5, jnp.bfloat16)
    np.testing.assert_array_equal(out, np.swapaxes(turned, 1, 2))
    alone = newton_schulz(cut(matrix, 1), 5, jnp.bfloat16)
    np.testing.assert_array_equal(cut(out, 1), alone)


def test_bfloat16_results_are_bfloat16_values_in_the_dtype_of_the_input():
    matrix = on_device(np.random.default_rng(3).standard_normal((6, 8)), np.float32)
    out = newton_schulz(matrix, 5, jnp.bfloat16)
    assert out.dtype == jnp.float32
    np.testing.assert_array_equal(out, out.astype(jnp.bfloat16).astype(jnp.float32))
