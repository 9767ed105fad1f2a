"""Published names to parameters and back."""

import dataclasses

import jax
import numpy as np
import pytest
from flax import nnx

from tttlrm_jax.config import ModelConfig, RuleConfig
from tttlrm_jax.convert import (
    config_from_shapes,
    params_from_published,
    published_from_params,
    published_shapes,
)
from tttlrm_jax.convert.shapes import ratio
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.models import abstract_model, build_model

CONFIG = ModelConfig(
    d_model=24, num_layers=3, patch_size=4, attention_head_dim=8, num_ttt_heads=2,
    ttt_inner_factor=2.0, mlp_factor=3.0, sh_degree=1, output_norm="head",
)  # fmt: skip


def published(config=CONFIG):
    model = build_model(config, seed=3)
    return model, published_from_params(nnx.state(model, nnx.Param), model)


@pytest.mark.parametrize("kind", ["tttlrm", "lvsm"])
def test_round_trip(kind):
    config = dataclasses.replace(CONFIG, kind=kind)
    model, tensors = published(config)
    back = params_from_published(tensors, abstract_model(config))
    jax.tree.map(np.testing.assert_array_equal, nnx.state(back), nnx.state(model))
    assert {name: tensor.shape for name, tensor in tensors.items()} == published_shapes(model)


def test_linear_weights_are_transposed_and_layers_stacked():
    model, tensors = published()
    weight = tensors["blocks.2.module_list.2.f.c_fc.weight"]
    assert weight.shape == (72, 24)
    np.testing.assert_array_equal(weight.T, model.blocks.mlp.c_fc.kernel[2])
    w1 = tensors["blocks.1.module_list.1.f.w1"]
    np.testing.assert_array_equal(w1, model.blocks.ttt.w1[1])  # not a linear weight: as it is


def test_wrappers_are_stripped_and_frozen_networks_left_out():
    model, tensors = published()
    wrapped = {f"module._orig_mod.{name}": tensor for name, tensor in tensors.items()}
    wrapped = {
        name.replace("blocks.0.", "blocks.0._checkpoint_wrapped_module."): tensor
        for name, tensor in wrapped.items()
    }
    wrapped["perceptual_loss_module.Net.conv1.bias"] = np.zeros(64)
    wrapped["module.depth_anything.pretrained.cls_token"] = np.zeros(3)
    back = params_from_published(wrapped, abstract_model(CONFIG))
    jax.tree.map(np.testing.assert_array_equal, nnx.state(back), nnx.state(model))
    assert config_from_shapes({n: t.shape for n, t in wrapped.items()}, CONFIG) == CONFIG


def test_one_error_names_everything_wrong():
    _, tensors = published()
    del tensors["decoder.1.weight"]
    tensors["blocks.7.module_list.0.ln.weight"] = np.ones(24)
    tensors["tokenizer.1.weight"] = tensors["tokenizer.1.weight"].T
    with pytest.raises(InputError) as error:
        params_from_published(tensors, abstract_model(CONFIG))
    message = str(error.value)
    assert "missing: decoder.1.weight;" in message
    assert "unexpected: blocks.7.module_list.0.ln.weight;" in message
    assert "tokenizer.1.weight (192, 24) (expected (24, 192))" in message


def test_the_same_tensor_twice_is_an_error():
    _, tensors = published()
    tensors["module.input_layernorm.weight"] = tensors["input_layernorm.weight"]
    with pytest.raises(InputError, match=r"input_layernorm\.weight twice"):
        params_from_published(tensors, abstract_model(CONFIG))


def test_parameters_take_the_dtype_of_the_model():
    _, tensors = published()
    half = dataclasses.replace(CONFIG, param_dtype="bfloat16")
    model = params_from_published(tensors, abstract_model(half))
    assert {leaf.dtype for leaf in jax.tree.leaves(nnx.state(model, nnx.Param))} == {
        np.dtype("bfloat16")
    }


@pytest.mark.parametrize("kind", ["tttlrm", "lvsm"])
def test_sizes_from_shapes(kind):
    config = dataclasses.replace(CONFIG, kind=kind, rule=RuleConfig.of("muon", steps=3))
    shapes = published_shapes(abstract_model(config))
    assert config_from_shapes(
        shapes, dataclasses.replace(ModelConfig(), rule=RuleConfig.of("muon", steps=3))
    ) == (config if kind == "tttlrm" else dataclasses.replace(config, sh_degree=3))
    del shapes["blocks.0.module_list.0.f.q_norm.weight"]
    with pytest.raises(InputError, match="q_norm"):
        config_from_shapes(shapes)


def test_ratio_survives_rounding():
    for width in range(1, 200):
        for hidden in (1, width, 3 * width + 1, 5 * width - 1):
            assert int(width * ratio(hidden, width)) == hidden
