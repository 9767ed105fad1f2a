"""Recordings of the layers by themselves and of one whole block."""

import functools
from collections.abc import Iterator

from tttlrm_jax.config import ModelConfig
from tttlrm_jax.convert.shapes import ratio
from tttlrm_jax.models.nn.attention import WindowAttention
from tttlrm_jax.models.nn.block import Block
from tttlrm_jax.models.nn.layers import LINEAR_INIT_STD, MLP
from tttlrm_jax.models.nn.ttt_layer import TTTLayer
from tttlrm_jax.parity.modules import published_module
from tttlrm_jax.parity.recording import Recording, Variant
from tttlrm_jax.parity.report import Row
from tttlrm_jax.parity.tttlrm.common import (
    judge_module,
    named_weights,
    operations_from,
    plan_kind,
    precision,
    rule_config,
    ttt_params,
    ttt_sizes,
)

# Output and gradient: five times the float32 rounding errors that the recordings' README measured.
SUBLAYER = (3e-6, 1e-5)
TTT_LAYER = {"single": (2e-5, 3.5e-5), "chunked": (2e-5, 2e-4)}
BLOCK = (2.5e-5, 3e-4)  # the latter of `lr_fc`, the worst


def _output(module, x):
    return {"output": module(x)}


def check_window_attention(recording: Recording) -> Iterator[Row]:
    """Kinds of attention by name: `qknorm` is the models', `noqknorm`, `causal`."""
    for kind in recording.cases("/param/to_qkv.weight"):
        tensors = recording.under(f"{kind}/param/")
        for variant in recording.variants(f"{kind}/"):
            config = ModelConfig(
                d_model=recording["x"].shape[-1],
                attention_head_dim=recording.meta["config"]["head_dim"],
                **precision(variant),
            )
            attention = published_module(
                tensors, WindowAttention, config, projection_std=LINEAR_INIT_STD,
                qk_norm="q_norm.weight" in tensors, causal=kind == "causal",
            )  # fmt: skip
            prefix = f"{kind}/{variant.name}/"
            yield from judge_module(recording, prefix, variant, attention, SUBLAYER, _output)


def check_mlp(recording: Recording) -> Iterator[Row]:
    """`mlp.npz`."""
    tensors = recording.under("param/")
    hidden, d_model = tensors["c_fc.weight"].shape
    for variant in recording.variants():
        config = ModelConfig(
            d_model=d_model, attention_head_dim=d_model, mlp_factor=ratio(hidden, d_model),
            **precision(variant),
        )  # fmt: skip
        mlp = published_module(tensors, MLP, config, projection_std=LINEAR_INIT_STD)
        prefix = f"{variant.name}/"
        yield from judge_module(recording, prefix, variant, mlp, SUBLAYER, _output)


def check_ttt_layer(recording: Recording) -> Iterator[Row]:
    """`ttt_layer.npz` and `lact_ttt_layer.npz`: cases of operations, rule and output norm."""
    tensors = recording.under("param/")
    for case in recording.cases("/ops"):
        operations = operations_from(recording[f"{case}/ops"])

        def run(layer, x, operations=operations):
            out, state = layer(x, operations, layer.initial_state(x.shape[0]))
            return {"output": out, **named_weights(state.weights)}

        for variant in recording.variants(f"{case}/"):
            config = _layer_config(recording, case, variant)
            layer = published_module(tensors, TTTLayer, config, projection_std=LINEAR_INIT_STD)
            tolerances, prefix = TTT_LAYER[plan_kind(operations)], f"{case}/{variant.name}/"
            yield from judge_module(recording, prefix, variant, layer, tolerances, run)


def _layer_config(recording: Recording, case: str, variant: Variant) -> ModelConfig:
    meta, d_model = recording.meta, recording["x"].shape[-1]
    return ModelConfig(
        d_model=d_model,
        attention_head_dim=d_model,
        output_norm="merged" if recording["param/o_norm.weight"].size == d_model else "head",
        **ttt_sizes(recording["param/w0"]),
        **rule_config({**meta, **meta.get("cases", {}).get(case, {})}, variant),
    )


def check_block(recording: Recording) -> Iterator[Row]:
    """`block.npz`: branches, output, final weights and gradients by schedule."""
    tokens_per_view = recording.meta["config"]["l"]
    for schedule in recording.cases("/ops"):
        operations = operations_from(recording[f"{schedule}/ops"])
        run = functools.partial(_run_block, operations=operations, tokens_per_view=tokens_per_view)
        for variant in recording.variants(f"{schedule}/"):
            config = _block_config(recording, variant)
            block = published_module(recording.under("param/"), Block, config)
            prefix = f"{schedule}/{variant.name}/"
            yield from judge_module(recording, prefix, variant, block, BLOCK, run)


def _run_block(block: Block, x, operations, tokens_per_view: int):
    by_view = x.reshape(len(x), -1, tokens_per_view, x.shape[-1])
    start = block.ttt.initial_state(len(x))
    out, state = block(by_view, operations, start)
    attention = block.attention_branch(by_view)
    ttt, _ = block.ttt_branch(by_view + attention, operations, start)
    named = {
        "branch_attn": attention,
        "branch_ttt": ttt,
        "branch_mlp": block.mlp_branch(by_view + attention + ttt),
        "output": out,
    }
    named = {name: array.reshape(x.shape) for name, array in named.items()}
    return {**named, **named_weights(state.weights)}


def _block_config(recording: Recording, variant: Variant) -> ModelConfig:
    hidden, d_model = recording["param/module_list.2.f.c_fc.weight"].shape
    return ModelConfig(
        d_model=d_model,
        attention_head_dim=recording["param/module_list.0.f.q_norm.weight"].size,
        mlp_factor=ratio(hidden, d_model),
        **ttt_sizes(recording["param/module_list.1.f.w0"]),
        **rule_config(ttt_params(recording.meta["block_config"]), variant),
    )
