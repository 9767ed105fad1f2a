"""Fast-weight operations: hand-worked numbers, and equality of ways to run the same plan."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.fast.cutting import cut
from tttlrm_jax.core.arrays import on_device
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.ttt import (
    FastWeights,
    Operation,
    TokenRates,
    apply_fast_mlp,
    ascent_direction,
    full_plan,
    initial_state,
    run_operations,
    sequential_plan,
    update_state,
)
from tttlrm_jax.ttt.rules import UpdateRule, elastic, muon

F32 = jnp.dtype("float32")
PLAIN = muon(steps=5, dtype="float32")


def ascent() -> UpdateRule:
    """Adds the gradient as it is, to work cases by hand."""
    return UpdateRule(lambda w: (), lambda g, s, w: (g, s))


def tokens(batch=2, head=3, token=24, d_head=4, d_hid=6, seed=0):
    rng = np.random.default_rng(seed)

    def draw(*shape):
        return on_device(rng.standard_normal(shape), F32)

    weights = FastWeights(
        gate=draw(batch, head, d_head, d_hid),
        down=draw(batch, head, d_hid, d_head),
        up=draw(batch, head, d_head, d_hid),
    )
    query, key, value = (draw(batch, head, token, d_head) for _ in range(3))
    rates = TokenRates(*(jnp.exp(0.3 * draw(batch, head, token)) for _ in range(3)))
    return weights, (query, key, value, rates)


@functools.cache
def compiled(operations, rule):
    @jax.jit
    def program(weights, sequence):
        return run_operations(initial_state(weights, rule), *sequence, operations, rule, F32)

    return program


def run(weights, sequence, operations, rule=PLAIN):
    return compiled(operations, rule)(weights, sequence)


update = jax.jit(update_state, static_argnums=(4, 5))


def test_fast_network_by_hand():
    def at(*entries):
        return jnp.asarray(entries, F32)[None, None]

    weights = FastWeights(gate=at([2.0], [0.0]), down=at([3.0, 5.0]), up=at([0.0], [1.0]))
    out = apply_fast_mlp(weights, at([1.0, 4.0]), F32)
    silu = 2 / (1 + np.exp(-2.0))
    np.testing.assert_allclose(out[0, 0, 0], [silu * 4 * 3, silu * 4 * 5], rtol=1e-6)


def test_ascent_direction_is_the_gradient_of_the_weighted_inner_products():
    weights, (_, key, value, rates) = tokens(token=5)

    def objective(weights, rate):
        out = apply_fast_mlp(weights, key, F32)
        return jnp.sum(rate * jnp.sum(out * value, axis=-1))

    differentiate = jax.jit(jax.grad(objective))
    ours = jax.jit(functools.partial(ascent_direction, dtype=F32))(weights, key, value, rates)
    for name in ("gate", "down", "up"):
        expected = getattr(differentiate(weights, getattr(rates, name)), name)
        np.testing.assert_allclose(getattr(ours, name), expected, rtol=2e-4, atol=2e-5)


def test_update_keeps_the_norms_of_output_units():
    weights, (_, key, value, rates) = tokens()
    state = initial_state(weights, PLAIN)
    updated = update(state, key, value, rates, PLAIN, F32).weights
    for name in ("gate", "down", "up"):
        before, after = (np.linalg.norm(getattr(w, name), axis=-2) for w in (weights, updated))
        np.testing.assert_allclose(after, before, rtol=1e-4)
        assert np.abs(getattr(updated, name) - getattr(weights, name)).max() > 0.05


def test_a_common_factor_on_all_rates_cancels_but_zero_rates_do_not_write():
    weights, (query, key, value, rates) = tokens()
    doubled = jax.tree.map(lambda r: 2 * r, rates)
    operations = full_plan(24, 24)
    once, _ = run(weights, (query, key, value, rates), operations)
    twice, _ = run(weights, (query, key, value, doubled), operations)
    np.testing.assert_allclose(once, twice, atol=1e-4)
    silent = jax.tree.map(jnp.zeros_like, rates)
    out, _ = run(weights, (query, key, value, silent), operations)
    np.testing.assert_allclose(out, apply_fast_mlp(weights, query, F32), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("rule", [PLAIN, elastic(PLAIN, strength=0.3)])
def test_scanned_chunks_equal_a_python_loop(rule):
    weights, sequence = tokens()
    query, key, value, rates = sequence
    out, state = run(weights, sequence, sequential_plan(18, 24, 6), rule)
    expected = initial_state(weights, rule)
    for start in range(0, 18, 6):
        chunk = cut((key, value, rates), slice(None), slice(None), slice(start, start + 6))
        expected = update(expected, *chunk, rule, F32)
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=2e-5), state, expected)
    np.testing.assert_allclose(out, apply_fast_mlp(expected.weights, query, F32), atol=2e-4)


def test_split_operations_equal_joint_ones():
    weights, sequence = tokens()
    joint, _ = run(
        weights, sequence, (Operation(0, 12, True, True, True), Operation(12, 24, apply=True))
    )
    parts = (
        Operation(0, 12, update=True, persist=True),
        Operation(0, 5, apply=True),
        Operation(5, 24, apply=True),
    )  # fmt: skip
    split, _ = run(weights, sequence, parts)
    np.testing.assert_allclose(split, joint, atol=2e-5)


def test_outputs_come_in_list_order_and_may_overlap():
    weights, sequence = tokens()
    out, _ = run(weights, sequence, (Operation(6, 9, apply=True), Operation(0, 8, apply=True)))
    everything = apply_fast_mlp(weights, sequence[0], F32)
    np.testing.assert_allclose(out[:, :, :3], everything[:, :, 6:9], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(out[:, :, 3:], everything[:, :, :8], rtol=1e-5, atol=1e-5)


def test_update_without_persistence_lives_in_its_operation_only():
    weights, sequence = tokens()
    passing = Operation(0, 12, update=True, persist=False, apply=True)
    out, state = run(weights, sequence, (passing, Operation(0, 12, apply=True)))
    persistent, _ = run(weights, sequence, (Operation(0, 12, True, True, True),))
    np.testing.assert_allclose(out[:, :, :12], persistent, atol=1e-5)
    np.testing.assert_allclose(
        out[:, :, 12:], apply_fast_mlp(weights, sequence[0][:, :, :12], F32), rtol=1e-5, atol=1e-5
    )
    jax.tree.map(np.testing.assert_array_equal, state.weights, weights)


def test_heads_and_scenes_do_not_mix():
    weights, sequence = tokens()
    operations = sequential_plan(12, 24, 6)
    out, _ = run(weights, sequence, operations)
    for batch in range(2):
        for head in range(3):
            alone = cut((weights, sequence), slice(batch, batch + 1), slice(head, head + 1))
            expected, _ = run(*alone, operations)
            np.testing.assert_allclose(cut(out, batch, head), cut(expected, 0, 0), atol=1e-4)


def test_a_plan_that_reads_nothing_gives_no_tokens():
    weights, sequence = tokens()
    out, _ = run(weights, sequence, (Operation(0, 12, update=True, persist=True),))
    assert out.shape == (2, 3, 0, 4)


@pytest.mark.parametrize("chunk", [5, 0, -6])
def test_chunk_that_does_not_divide_is_an_error(chunk):
    with pytest.raises(InputError, match="chunk"):
        sequential_plan(24, 48, chunk)


def test_operations_beyond_the_sequence_are_an_error():
    weights, sequence = tokens()
    with pytest.raises(InputError, match="24"):
        run(weights, sequence, (Operation(12, 30, apply=True),))


def test_elastic_by_hand():
    """One step of size 2 from weight 1, with a = 0.5: F = 2, I = 0 there and 1 elsewhere."""
    rule = elastic(ascent(), strength=0.1, fisher_decay=0.5, anchor_decay=0.8)

    def at(a, b):
        matrix = jnp.asarray([[[[a, b]]]], F32)
        return FastWeights(gate=matrix, down=matrix, up=matrix)

    weights, grad = at(1.0, 1.0), at(2.0, 0.0)
    state = rule.init(at(0.5, 0.5))
    delta, state = rule.update(grad, state, weights)
    np.testing.assert_allclose(state.fisher.gate[0, 0, 0], [2.0, 0.0])
    np.testing.assert_allclose(delta.gate[0, 0, 0], [2.0, -0.1 * (1.0 - 0.5)], atol=1e-6)
    state = rule.commit(state, at(3.0, 1.0))
    np.testing.assert_allclose(state.anchor.gate[0, 0, 0], [0.8 * 0.5 + 0.2 * 3, 0.6], rtol=1e-6)
