"""Softmax attention in place of TTT: equal parameters, sees all views, only the full plan."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tttlrm_jax.config import MeshConfig, ModelConfig, RunConfig, TrainConfig
from tttlrm_jax.core.errors import ConfigError, InputError
from tttlrm_jax.models import abstract_model, build_model, split_model
from tttlrm_jax.models.nn.attention import attend
from tttlrm_jax.models.nn.block import run_blocks
from tttlrm_jax.models.nn.global_attention import GlobalAttention
from tttlrm_jax.ttt import full_plan, sequential_plan

TTT = ModelConfig(
    d_model=24, num_layers=2, patch_size=4, attention_head_dim=8, num_ttt_heads=3,
    ttt_inner_factor=2.0, mlp_factor=1.0, sh_degree=0, newton_schulz_dtype="float32",
)  # fmt: skip
ATTENTION = dataclasses.replace(TTT, across_views="attention")


@pytest.mark.parametrize(
    "shape",
    [
        {"d_model": 24, "num_ttt_heads": 3},
        {"d_model": 192, "num_ttt_heads": 2, "attention_head_dim": 32},  # quickstart
        {"d_model": 768, "num_ttt_heads": 1, "attention_head_dim": 64, "ttt_inner_factor": 4.0},
    ],
)
def test_as_many_parameters(shape):
    counts = [
        sum(leaf.size for leaf in jax.tree.leaves(split_model(abstract_model(config))[1]))
        for config in (dataclasses.replace(base, **shape) for base in (TTT, ATTENTION))
    ]
    half_a_channel = shape["d_model"] * TTT.num_layers
    assert abs(counts[0] - counts[1]) <= half_a_channel
    assert abs(counts[0] / counts[1] - 1) < 0.005


def test_every_token_attends_to_the_tokens_of_all_inputs():
    from flax import nnx

    layer = GlobalAttention(ATTENTION, projection_std=0.02, rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(0), (2, 10, 24))
    out, state = layer(x, full_plan(6, 10), None)
    assert state is None
    query, key, value = (part.reshape(2, 10, 3, 8) for part in jnp.split(layer.to_qkv(x), 3, -1))

    def unit(v):
        return v / jnp.sqrt(jnp.mean(v * v, axis=-1, keepdims=True))

    expected = attend(unit(query), unit(key)[:, :6], value[:, :6], "float32").reshape(2, 10, 24)
    np.testing.assert_allclose(out, layer.c_proj(expected), rtol=2e-4, atol=1e-6)
    moved = x.at[:, 8].add(1.0)  # not an input: only its own output changes
    change = np.abs(layer(moved, full_plan(6, 10), None)[0] - out).max(axis=(0, 2))
    assert change[8] > 1e-5
    assert np.delete(change, 8).max() == 0
    moved = x.at[:, 2].add(1.0)
    assert np.abs(layer(moved, full_plan(6, 10), None)[0] - out).max(axis=(0, 2)).min() > 1e-7


def test_other_plans_are_refused():
    blocks = build_model(ATTENTION).blocks
    x = jnp.ones((1, 2, 3, 24))
    with pytest.raises(InputError, match="keeps no state to write chunks into"):
        run_blocks(blocks, x, sequential_plan(6, 6, 3))
    with pytest.raises(ConfigError, match=r"train\.plan=causal writes chunks"):
        RunConfig(name="x", model=ATTENTION, train=TrainConfig(plan="causal"))
    with pytest.raises(ConfigError, match=r"part views"):
        RunConfig(name="x", model=ATTENTION, mesh=MeshConfig(seq=2))
