"""Recordings of the other sub-layers and of one whole block."""

import functools
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
from flax import nnx

from tttlrm_jax.config import ModelConfig
from tttlrm_jax.convert.shapes import ratio
from tttlrm_jax.models.nn.attention import WindowAttention
from tttlrm_jax.models.nn.block import Block
from tttlrm_jax.models.nn.layers import LINEAR_INIT_STD, MLP
from tttlrm_jax.parity.recording import Variant, judge, load, quick_jit
from tttlrm_jax.parity.report import Row
from tttlrm_jax.parity.tttlrm.common import (
    judge_input_and_parameter_gradients,
    named_weights,
    operations_from,
    published_module,
    rule_config,
    ttt_params,
)

# Five times the float32 rounding errors that the recordings' README measured.
SUBLAYER_OUTPUT = 3e-6
SUBLAYER_GRADIENT = 1e-5
BLOCK_OUTPUT = 2.5e-5
BLOCK_GRADIENT = 3e-4  # of `lr_fc`, the worst


@functools.partial(quick_jit, static_argnames=("graph",))
def _module_case(graph, params, x, cotangent):
    def scalar(params, x):
        out = nnx.merge(graph, params)(x)
        return jnp.sum(out * cotangent), out

    (_, out), grads = jax.value_and_grad(scalar, argnums=(0, 1), has_aux=True)(params, x)
    return out, grads


def _check_module(recording, prefix: str, variant: Variant, module) -> Iterator[Row]:
    graph, params = nnx.split(module)
    x, cotangent = (jnp.asarray(recording[key], variant.dtype) for key in ("x", "R"))
    out, grads = _module_case(graph, params, x, cotangent)
    yield from judge(recording, f"{prefix}{variant.name}/output", out, variant, SUBLAYER_OUTPUT)
    yield from judge_input_and_parameter_gradients(
        recording, f"{prefix}{variant.name}/grad/", module, grads, variant, SUBLAYER_GRADIENT
    )


def check_window_attention(path: Path) -> Iterator[Row]:
    """Kinds of attention by name: `qknorm` is the models', `noqknorm`, `causal`."""
    recording = load(path)
    for kind in recording.cases("/param/to_qkv.weight"):
        tensors = recording.under(f"{kind}/param/")
        qk_norm = "q_norm.weight" in tensors
        for variant in recording.variants(f"{kind}/"):
            config = ModelConfig(
                d_model=recording["x"].shape[-1],
                attention_head_dim=recording.meta["config"]["head_dim"],
                compute_dtype=variant.dtype,
                param_dtype=variant.dtype,
            )
            attention = published_module(
                tensors, WindowAttention, config, projection_std=LINEAR_INIT_STD,
                qk_norm=qk_norm, causal=kind == "causal",
            )  # fmt: skip
            yield from _check_module(recording, f"{kind}/", variant, attention)


def check_mlp(path: Path) -> Iterator[Row]:
    recording = load(path)
    tensors = recording.under("param/")
    hidden, d_model = tensors["c_fc.weight"].shape
    for variant in recording.variants():
        config = ModelConfig(
            d_model=d_model, attention_head_dim=d_model, mlp_factor=ratio(hidden, d_model),
            compute_dtype=variant.dtype, param_dtype=variant.dtype,
        )  # fmt: skip
        module = published_module(tensors, MLP, config, projection_std=LINEAR_INIT_STD)
        yield from _check_module(recording, "", variant, module)


# ---- block.npz --------------------------------------------------------------------------------


@functools.partial(quick_jit, static_argnames=("graph", "operations", "differentiate"))
def _block_case(graph, params, x, cotangent, operations, differentiate):
    """Branches, output, final weights and, if wanted, gradients of `sum(output * cotangent)`."""

    def scalar(params, x):
        block = nnx.merge(graph, params)
        out, state = block(x, operations, block.ttt.initial_state(x.shape[0]))
        return jnp.sum(out * cotangent), (out, state.weights)

    def branches(params, x):
        block = nnx.merge(graph, params)
        attention = block.attention_branch(x)
        x = x + attention
        ttt, _ = block.ttt_branch(x, operations, block.ttt.initial_state(x.shape[0]))
        return {"attn": attention, "ttt": ttt, "mlp": block.mlp_branch(x + ttt)}

    if not differentiate:
        return branches(params, x), scalar(params, x)[1], None
    (_, result), grads = jax.value_and_grad(scalar, argnums=(0, 1), has_aux=True)(params, x)
    return branches(params, x), result, grads


def check_block(path: Path) -> Iterator[Row]:
    recording = load(path)
    for schedule in recording.cases("/ops"):
        for variant in recording.variants(f"{schedule}/"):
            yield from _check_block_case(recording, schedule, variant)


def _check_block_case(recording, schedule: str, variant: Variant) -> Iterator[Row]:
    tensors = recording.under("param/")
    heads, d_head, d_hid = tensors["module_list.1.f.w0"].shape
    hidden, d_model = tensors["module_list.2.f.c_fc.weight"].shape
    layer_params = ttt_params(recording.meta["block_config"])
    config = ModelConfig(
        d_model=d_model,
        attention_head_dim=tensors["module_list.0.f.q_norm.weight"].size,
        num_ttt_heads=heads,
        ttt_inner_factor=ratio(d_hid, d_head),
        mlp_factor=ratio(hidden, d_model),
        base_lr=layer_params.get("base_lr", ModelConfig().base_lr),
        **rule_config(layer_params, variant),
    )
    block = published_module(tensors, Block, config)
    graph, params = nnx.split(block)
    flat, cotangent = (jnp.asarray(recording[key], variant.dtype) for key in ("x", "R"))
    by_view = (flat.shape[0], -1, recording.meta["config"]["l"], d_model)
    operations = operations_from(recording[f"{schedule}/ops"])
    prefix = f"{schedule}/{variant.name}"
    differentiate = f"{prefix}/grad/x" in recording
    branches, (out, weights), grads = _block_case(
        graph, params, flat.reshape(by_view), cotangent.reshape(by_view), operations, differentiate
    )
    actual = {f"branch_{name}": x.reshape(flat.shape) for name, x in branches.items()}
    actual["output"] = out.reshape(flat.shape)
    for key, array in {**actual, **named_weights(weights)}.items():
        yield from judge(recording, f"{prefix}/{key}", array, variant, BLOCK_OUTPUT)
    if differentiate:
        grads = (grads[0], grads[1].reshape(flat.shape))
        yield from judge_input_and_parameter_gradients(
            recording, f"{prefix}/grad/", block, grads, variant, BLOCK_GRADIENT
        )
