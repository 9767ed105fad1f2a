"""Update rules on numbers worked by hand, and orthogonalisation against singular values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tttlrm_jax.core.arrays import on_device
from tttlrm_jax.ttt import (
    FastWeights,
    TokenRates,
    apply_fast_mlp,
    ascent_direction,
    newton_schulz,
)
from tttlrm_jax.ttt.fast_weights import least_squares
from tttlrm_jax.ttt.newton_schulz import POLAR_EXPRESS, QUINTIC, gram_newton_schulz
from tttlrm_jax.ttt.operations import gate_values
from tttlrm_jax.ttt.rules import delta, forget, momentum, muon, sgd

F32 = jnp.dtype("float32")


def at(*entries) -> FastWeights:
    """The same 1 x n matrix three times, for one scene and head."""
    matrix = jnp.asarray([[[entries]]], F32)
    return FastWeights(gate=matrix, down=matrix, up=matrix)


def values(weights: FastWeights) -> np.ndarray:
    return np.asarray(weights.up[0, 0, 0])


def draw(*shape, seed=0):
    return on_device(np.random.default_rng(seed).standard_normal(shape), F32)


def test_sgd_and_momentum():
    rule = momentum(sgd(rate=2.0), decay=0.5)
    state = rule.init(at(1.0, 1.0))
    step, state = rule.update(at(1.0, -3.0), state, at(0.0, 0.0))
    np.testing.assert_allclose(values(step), [2.0, -6.0])
    step, state = rule.update(at(1.0, 1.0), state, at(0.0, 0.0))
    np.testing.assert_allclose(values(step), [2 * (0.5 + 1), 2 * (-1.5 + 1)])


@pytest.mark.parametrize(("toward", "expected"), [("zero", [-0.4, 1.0]), ("initial", [-0.1, 0.5])])
def test_constant_forgetting(toward, expected):
    """From (1, -1) to (4, -5) with retention 0.9 and a step of (0, 0.5)."""
    rule = forget(sgd(), retention=0.9, toward=toward)
    origin = at(3.0, -5.0) if toward == "initial" else at(1.0, -1.0)
    step, _ = rule.update(at(0.0, 0.5), rule.init(origin), at(4.0, -5.0))
    np.testing.assert_allclose(values(step), expected, atol=1e-6)


def test_learned_gates_reach_nested_rules_in_order():
    rule = forget(forget(sgd(), retention=0.5, gate="head", toward="zero"), gate="token",
                  toward="zero")  # fmt: skip
    assert [gate.from_tokens for gate in rule.gates] == [True, False]
    state = rule.observe(rule.init(at(1.0)), (jnp.asarray([[0.75]]), jnp.asarray([[0.5]])))
    step, _ = rule.update(at(0.0), state, at(4.0))
    np.testing.assert_allclose(values(step), [-0.25 * 4 - 0.5 * 4])


def test_gates_are_means_over_tokens_that_write():
    on = jnp.asarray([[[0.1, 0.2, 0.0]], [[0.0, 0.0, 0.0]]], F32)
    logits = jnp.asarray([[[1.0, 3.0, 50.0]], [[1.0, 3.0, 50.0]]], F32)
    (gate,) = gate_values(TokenRates(on, on, on, gates=(logits,)))
    np.testing.assert_allclose(gate, [[1 / (1 + np.exp(-2.0))], [1.0]], rtol=1e-6)


def test_delta_climbs_the_least_squares_objective():
    assert delta(muon()).objective is least_squares
    weights = FastWeights(
        gate=draw(2, 1, 3, 5), down=draw(2, 1, 5, 3, seed=1), up=draw(2, 1, 3, 5, seed=2)
    )
    key, value = draw(2, 1, 4, 3, seed=3), draw(2, 1, 4, 3, seed=4)
    rate = jnp.exp(draw(2, 1, 4, seed=5))

    def objective(weights):
        error = apply_fast_mlp(weights, key, F32) - value
        return -0.5 * jnp.sum(rate * jnp.sum(error**2, axis=-1))

    ours = ascent_direction(weights, key, value, TokenRates(rate, rate, rate), F32, least_squares)
    expected = jax.grad(objective)(weights)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4), ours, expected
    )


def with_singular_values(singular, columns=10):
    rng = np.random.default_rng(0)
    left = np.linalg.qr(rng.standard_normal((len(singular), len(singular))))[0]
    right = np.linalg.qr(rng.standard_normal((columns, len(singular))))[0]
    return (left * singular) @ right.T


def test_polar_express_keeps_its_bound():
    """Singular values of [1e-3, 1] of the norm come within 0.124 of 1 after five steps."""
    singular = np.geomspace(2e-3, 1.0, 7)
    matrix = jnp.asarray(with_singular_values(singular), F32)
    out = newton_schulz(matrix, 5, F32, coefficients=POLAR_EXPRESS)
    reached = np.linalg.svd(out, compute_uv=False)
    assert np.all(np.abs(reached - 1) < 0.126)
    quintic = np.linalg.svd(newton_schulz(matrix, 5, F32), compute_uv=False)
    assert np.abs(quintic - 1).max() > 0.2
    many = newton_schulz(matrix, 9, F32, coefficients=POLAR_EXPRESS)
    np.testing.assert_allclose(np.linalg.svd(many, compute_uv=False), np.ones(7), atol=1e-4)


@pytest.mark.parametrize("steps", [0, 1, 2, 5])
@pytest.mark.parametrize("coefficients", [QUINTIC, POLAR_EXPRESS], ids=["quintic", "polar"])
def test_gram_form_is_the_same_polynomial(steps, coefficients):
    for shape in ((2, 4, 7), (2, 7, 4)):
        matrix = draw(*shape)
        expected = newton_schulz(matrix, steps, F32, coefficients)
        for restart in (0, 2, 9):
            ours = gram_newton_schulz(matrix, steps, coefficients, restart)
            np.testing.assert_allclose(ours, expected, atol=2e-3)
