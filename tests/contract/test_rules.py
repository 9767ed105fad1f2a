"""Every update rule keeps the promises of `UpdateRule`."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tttlrm_jax.config import ModelConfig
from tttlrm_jax.ttt import (
    RULES,
    FastWeights,
    TokenRates,
    apply_fast_mlp,
    initial_state,
    rule_from_config,
    run_operations,
    sequential_plan,
    update_state,
)

F32 = jnp.dtype("float32")

# How to build each rule here; wrappers wrap Muon.
BUILD = {
    "muon": functools.partial(RULES["muon"], steps=5, dtype="float32"),
    "elastic": lambda: RULES["elastic"](RULES["muon"](steps=5, dtype="float32"), strength=0.2),
}


def test_every_rule_is_under_contract():
    assert BUILD.keys() == RULES.keys()


@pytest.fixture(params=sorted(RULES))
def rule(request):
    return BUILD[request.param]()


@pytest.fixture
def stream():
    rng = np.random.default_rng(0)

    def draw(*shape):
        return jnp.asarray(rng.standard_normal(shape), F32)

    weights = FastWeights(gate=draw(2, 2, 4, 6), down=draw(2, 2, 6, 4), up=draw(2, 2, 4, 6))
    key, value, query = (draw(2, 2, 16, 4) for _ in range(3))
    rates = TokenRates(*(jnp.exp(0.3 * draw(2, 2, 16)) for _ in range(3)))
    return weights, query, key, value, rates


def test_state_keeps_its_structure_through_jit_and_scan(rule, stream):
    weights, _, key, value, rates = stream
    state = initial_state(weights, rule)
    update = jax.jit(lambda s: update_state(s, key, value, rates, rule, F32))
    after = update(state)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert jax.eval_shape(lambda: after) == jax.eval_shape(lambda: state)


def test_split_stream_equals_whole(rule, stream):
    weights, query, *written = stream
    operations = sequential_plan(16, 16, 4)
    whole, _ = run_operations(initial_state(weights, rule), query, *written, operations, rule, F32)
    state = initial_state(weights, rule)
    for start in range(0, 16, 8):  # two calls of two chunks, the state handed over
        part = jax.tree.map(lambda x, s=start: x[:, :, s : s + 8], written)
        _, state = run_operations(
            state, query[:, :, :8], *part, sequential_plan(8, 8, 4)[:-1], rule, F32
        )
    np.testing.assert_allclose(apply_fast_mlp(state.weights, query, F32), whole, atol=2e-4)


def test_tokens_with_zero_rates_write_nothing(rule, stream):
    """Half the tokens switched off = the other half alone."""
    weights, _, key, value, rates = stream
    masked = jax.tree.map(lambda r: r.at[:, :, 8:].set(0.0), rates)
    state = initial_state(weights, rule)
    with_silent = update_state(state, key, value, masked, rule, F32)
    half = jax.tree.map(lambda x: x[:, :, :8], (key, value, rates))
    alone = update_state(state, *half, rule, F32)
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=2e-5), with_silent, alone)


def test_update_points_uphill(rule, stream):
    """The inner objective, the sum of rate-weighted inner products, grows."""
    weights, _, key, value, rates = stream
    equal = jax.tree.map(jnp.ones_like, rates)
    state = initial_state(weights, rule)
    after = update_state(state, key, value, equal, rule, F32)
    before, now = (jnp.sum(apply_fast_mlp(w, key, F32) * value) for w in (weights, after.weights))
    assert now > before


def test_outer_gradient_reaches_every_input(rule, stream):
    weights, query, key, value, rates = stream

    def scalar(weights, key, value, rates):
        out, _ = run_operations(
            initial_state(weights, rule), query, key, value, rates,
            sequential_plan(16, 16, 8), rule, F32,
        )  # fmt: skip
        return jnp.sum(jnp.sin(out))

    grads = jax.jit(jax.grad(scalar, argnums=(0, 1, 2, 3)))(weights, key, value, rates)
    for leaf in jax.tree.leaves(grads):
        assert np.all(np.isfinite(leaf))
        assert np.any(leaf)


def test_float64_stays_float64(rule, stream):
    with jax.enable_x64(True):
        weights, _, *written = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), stream)
        state = initial_state(weights, rule)
        after = update_state(state, *written, rule, jnp.dtype("float64"))
        assert {leaf.dtype for leaf in jax.tree.leaves(after)} == {jnp.dtype("float64")}


def test_configuration_chooses_the_rule():
    config = ModelConfig(elastic_strength=0.1)
    weights = FastWeights(*(jnp.ones((1, 1, 2, 2), F32) for _ in range(3)))
    assert jax.tree.leaves(rule_from_config(config).init(weights))
    assert not jax.tree.leaves(rule_from_config(ModelConfig()).init(weights))
