"""Derivatives of the fast-weight maths against float64 finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from tttlrm_jax.core.arrays import on_device
from tttlrm_jax.models.nn.layers import layer_norm, rms_norm
from tttlrm_jax.models.nn.ttt_layer import unit_vectors
from tttlrm_jax.ttt import (
    FastWeights,
    Operation,
    TokenRates,
    initial_state,
    newton_schulz,
    run_operations,
    sequential_plan,
)
from tttlrm_jax.ttt.rules import muon

F64 = jnp.dtype("float64")
# Central differences of step 1e-5 are good to 1e-10; five Newton-Schulz steps magnify by 1e3.
TOLERANCE = {"rtol": 1e-5, "atol": 1e-6}


@pytest.fixture(autouse=True)
def _x64():
    with jax.enable_x64(True):
        yield


def check(function, arguments, **options):
    """`check_grads` in reverse mode; it perturbs with NumPy arrays, our functions take JAX's."""
    compiled = jax.jit(function)

    def of_jax_arrays(*args):
        return compiled(*jax.device_put(args))

    check_grads(of_jax_arrays, arguments, order=1, modes=["rev"], **options)


def draw(*shape, seed=0):
    return on_device(np.random.default_rng(seed).standard_normal(shape), F64)


@pytest.mark.parametrize("shape", [(2, 3, 5), (2, 5, 3), (1, 4, 4)])
@pytest.mark.parametrize("steps", [0, 1, 5])
def test_newton_schulz(shape, steps):
    check(lambda m: newton_schulz(m, steps, F64), (draw(*shape),), eps=1e-5, **TOLERANCE)


@pytest.mark.parametrize(
    "operations",
    [
        sequential_plan(6, 9, 6),
        sequential_plan(6, 9, 2),
        (Operation(0, 3, True, False, True), Operation(0, 6, True, True, True)),
    ],
    ids=["full", "sequential", "not persistent"],
)
def test_operations(operations):
    """In queries, keys, values, rates and (with constant target norms) initial weights."""
    rule = muon(steps=5, dtype="float64")
    base = FastWeights(gate=draw(1, 2, 3, 4), down=draw(1, 2, 4, 3, seed=1), up=draw(1, 2, 3, 4))
    constant = initial_state(base, rule).target_norm

    def outputs(weights, query, key, value, rates):
        state = initial_state(weights, rule).replace(target_norm=constant)
        return run_operations(state, query, key, value, rates, operations, rule, F64)[0]

    sequence = tuple(draw(1, 2, 9, 3, seed=seed) for seed in (2, 3, 4))
    rates = TokenRates(*(jnp.exp(0.3 * draw(1, 2, 9, seed=seed)) for seed in (5, 6, 7)))
    check(outputs, (base, *sequence, rates), eps=1e-6, rtol=1e-4, atol=1e-5)


def test_target_norms_are_constants():
    rule = muon(steps=5, dtype="float64")
    weights = FastWeights(draw(1, 1, 3, 4), draw(1, 1, 4, 3), draw(1, 1, 3, 4))
    grads = jax.grad(
        lambda w: sum(jnp.sum(n) for n in jax.tree.leaves(initial_state(w, rule).target_norm))
    )(weights)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(grads))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: layer_norm(x, jnp.arange(1.0, 5.0, dtype=F64)),
        lambda x: rms_norm(x, jnp.arange(1.0, 5.0, dtype=F64), 1e-5),
        unit_vectors,
    ],
    ids=["layer norm", "RMS norm", "unit vectors"],
)
def test_norms(function):
    check(function, (draw(3, 4),), eps=1e-5, **TOLERANCE)
    at_zero = jax.grad(lambda x: jnp.sum(function(x)))(jnp.zeros((2, 4), F64))
    assert np.all(np.isfinite(at_zero))
