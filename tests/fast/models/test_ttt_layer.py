"""The TTT layer: rates, heads, norms, hand-over of its state."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.fast.cutting import cut
from tttlrm_jax.config import ModelConfig, RuleConfig
from tttlrm_jax.core.arrays import on_device
from tttlrm_jax.models.nn.ttt_layer import TTTLayer, unit_vectors
from tttlrm_jax.ttt import Operation, full_plan, sequential_plan

CONFIG = ModelConfig(
    d_model=12, attention_head_dim=4, num_ttt_heads=3, ttt_inner_factor=2.0, base_lr=0.03,
    newton_schulz_dtype="float32",
)  # fmt: skip


def layer(**changes):
    config = dataclasses.replace(CONFIG, **changes)
    return TTTLayer(config, projection_std=0.3, rngs=nnx.Rngs(0))


@functools.cache
def compiled(graph, operations):
    return jax.jit(lambda params, x, state: nnx.merge(graph, params)(x, operations, state))


def run(ttt, x, operations, state):
    """The layer in one compilation."""
    graph, params = nnx.split(ttt)
    return compiled(graph, operations)(params, x, state)


def draw(*shape, seed=0):
    return on_device(np.random.default_rng(seed).standard_normal(shape), np.float32)


def test_rates_start_at_the_base_rate():
    ttt = layer()
    ttt.lr_fc.kernel[...] = jnp.zeros_like(ttt.lr_fc.kernel[...])
    rates = ttt._rates(draw(2, 5, 12))
    for leaf in jax.tree.leaves(rates):
        np.testing.assert_allclose(leaf, np.full((2, 3, 5), 0.03), rtol=1e-5)


def test_rate_channels_are_matrix_then_head():
    ttt = layer()
    ttt.lr_fc.kernel[...] = jnp.zeros_like(ttt.lr_fc.kernel[...])
    ttt.lr_fc.bias[...] = jnp.arange(9, dtype=jnp.float32)  # gate 0-2, down 3-5, up 6-8
    rates = ttt._rates(draw(1, 1, 12))
    order = [rates.gate, rates.down, rates.up]
    flat = np.concatenate([np.asarray(x)[0, :, 0] for x in order])
    assert np.all(np.diff(flat) > 0)


def test_unit_vectors():
    out = unit_vectors(jnp.asarray([[3.0, 4.0], [0.0, 0.0]]))
    np.testing.assert_allclose(out, [[0.6, 0.8], [0.0, 0.0]], atol=1e-5)


@pytest.mark.parametrize("norm", ["merged", "head"])
def test_a_batch_is_its_scenes_one_by_one(norm):
    ttt, x = layer(output_norm=norm), draw(2, 8, 12)
    operations = sequential_plan(6, 8, 3)
    out, state = run(ttt, x, operations, ttt.initial_state(2))
    close = functools.partial(np.testing.assert_allclose, atol=1e-4)  # through Newton-Schulz
    for scene in range(2):
        alone, own = run(ttt, cut(x, slice(scene, scene + 1)), operations, ttt.initial_state(1))
        ours, theirs = cut((out, state.weights.gate), scene), cut((alone, own.weights.gate), 0)
        jax.tree.map(close, ours, theirs)


def test_output_norms_agree_for_one_head_and_differ_for_three():
    x, operations = draw(1, 6, 12), full_plan(6, 6)
    for heads, same in ((1, True), (3, False)):
        merged, per_head = (
            run(ttt, x, operations, ttt.initial_state(1))[0]
            for ttt in (layer(num_ttt_heads=heads, output_norm=n) for n in ("merged", "head"))
        )
        assert np.allclose(merged, per_head, atol=1e-5) == same


def test_state_handed_over_equals_one_call():
    ttt, x = layer(), draw(2, 8, 12)
    together, _ = run(ttt, x, sequential_plan(8, 8, 4), ttt.initial_state(2))
    state = ttt.initial_state(2)
    for start in (0, 4):
        write = (Operation(0, 4, update=True, persist=True),)
        _, state = run(ttt, cut(x, slice(None), slice(start, start + 4)), write, state)
    later, _ = run(ttt, x, (Operation(0, 8, apply=True),), state)
    np.testing.assert_allclose(later, together, atol=1e-5)


def test_initial_weights_have_the_published_spread():
    ttt = TTTLayer(ModelConfig(d_model=256), projection_std=0.02, rngs=nnx.Rngs(0))
    for matrix, rows in ((ttt.w0, 256), (ttt.w1, 1024), (ttt.w2, 256)):
        assert matrix.shape[1] == rows
        np.testing.assert_allclose(np.std(matrix[...]), np.sqrt(2 / rows), rtol=0.02)
    np.testing.assert_allclose(np.std(ttt.to_qkv.kernel[...]), 0.02, rtol=0.02)


def test_only_rules_with_gates_add_parameters():
    published = set(nnx.to_flat_state(nnx.state(layer())).paths)
    constant = RuleConfig.of("forget", inner=RuleConfig("delta"))
    assert set(nnx.to_flat_state(nnx.state(layer(rule=constant))).paths) == published
    head = nnx.state(layer(rule=RuleConfig.of("forget", gate="head")))
    added = set(nnx.to_flat_state(head).paths) - published
    assert added == {("rule_gates", "bias")}


@pytest.mark.parametrize("gate", ["head", "token"])
def test_learned_gates_start_at_the_constant_and_learn(gate):
    x, operations = draw(2, 8, 12), sequential_plan(8, 8, 4)
    rule = RuleConfig.of("forget", retention=0.7, gate=gate)
    ttt = layer(rule=rule)
    constant = layer(rule=RuleConfig.of("forget", retention=0.7))
    out, _ = run(ttt, x, operations, ttt.initial_state(2))
    expected, _ = run(constant, x, operations, constant.initial_state(2))
    np.testing.assert_allclose(out, expected, atol=1e-5)
    graph, params = nnx.split(ttt)

    def scalar(params):
        module = nnx.merge(graph, params)
        return jnp.sum(jnp.sin(module(x, operations, module.initial_state(2))[0]))

    grads = jax.jit(jax.grad(scalar))(params).rule_gates
    for leaf in jax.tree.leaves(grads):  # every head's gate learns
        assert np.all(np.any(leaf.reshape(-1, 3), axis=0))
