"""Recordings of the LaCT view-synthesis model: one pass, two stages, states, gradients."""

import functools
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from tttlrm_jax.convert import published_from_params
from tttlrm_jax.core.types import Cameras, Views
from tttlrm_jax.models import LVSM
from tttlrm_jax.models.trunk import plan_operations
from tttlrm_jax.parity.recording import (
    BF16_DEVIATION,
    Recording,
    Variant,
    judge,
    load,
    quick_jit,
)
from tttlrm_jax.parity.report import Row, compare
from tttlrm_jax.parity.tttlrm.common import judge_gradients, named_weights, published_module
from tttlrm_jax.parity.tttlrm.models import (
    BLOCK_TOKENS,
    GRADIENT,
    INPUT_TOKENS,
    flat_tokens,
    model_config,
    tokens_by_block,
    views_from,
)
from tttlrm_jax.training.losses.terms import mean_squared_error, psnr_of_mse

# Five times the float32 rounding errors that the recordings' README measured.
OUTPUT = 3e-5
STATE = 1e-4
SCALAR = 1e-6


@functools.partial(quick_jit, static_argnames=("graph",))
def _tokens(graph, params, inputs: Views, targets: Cameras):
    model = nnx.merge(graph, params)
    return jnp.concatenate([model.tokenize(inputs), model.tokenize_targets(targets)], axis=1)


def _synthesise(graph, params, inputs: Views, targets: Views):
    image = nnx.merge(graph, params)(inputs, targets.cameras)
    mse = mean_squared_error(image, targets.image)
    return image, mse, psnr_of_mse(mse)


_one_pass = quick_jit(_synthesise, static_argnames=("graph",))


@functools.partial(quick_jit, static_argnames=("graph",))
def _gradient(graph, params, inputs: Views, targets: Views):
    return jax.grad(lambda p: _synthesise(graph, p, inputs, targets)[1])(params)


@functools.partial(quick_jit, static_argnames=("graph",))
def _two_stages(graph, params, inputs: Views, targets: Cameras):
    model = nnx.merge(graph, params)
    state = model.reconstruct(inputs)
    return model.render(state, targets), state.weights


def _case(source: Recording, variant: Variant) -> tuple[LVSM, Views, Views]:
    tensors = source.under("param/")
    model = published_module(tensors, LVSM, model_config(tensors, source.meta, variant))
    inputs, targets = (
        views_from(
            source[f"in/{kind}_image"], source[f"in/{kind}_c2w"], source[f"in/{kind}_fxfycxcy"],
            variant.dtype,
        )
        for kind in ("input", "target")
    )  # fmt: skip
    return model, inputs, targets


def check_lvsm(path: Path) -> Iterator[Row]:
    """`lvsm_forward.npz`."""
    recording = load(path)
    for variant in recording.variants():
        yield from _check_forward(recording, variant)


def _check_forward(recording: Recording, variant: Variant) -> Iterator[Row]:
    model, inputs, targets = _case(recording, variant)
    graph, params = nnx.split(model)
    prefix = f"{variant.name}/"
    tokens = _tokens(graph, params, inputs, targets.cameras)
    quantity = f"{prefix}tokens_input_layernorm"
    flat = flat_tokens(tokens)
    if variant.name == "bf16":  # no Newton-Schulz yet
        yield compare(recording.path, quantity, flat, recording[quantity], INPUT_TOKENS)
    else:
        yield from judge(recording, quantity, flat, variant, INPUT_TOKENS)
    num_input = inputs.image.shape[1]
    operations = plan_operations("full", num_input, tokens.shape, num_input)
    for layer, out in enumerate(tokens_by_block(model.blocks, tokens, operations)):
        quantity = f"{prefix}tokens_block{layer}"
        yield from judge(recording, quantity, flat_tokens(out), variant, BLOCK_TOKENS)

    image, mse, psnr = _one_pass(graph, params, inputs, targets)
    rendered, states = _two_stages(graph, params, inputs, targets.cameras)
    for key, array in {"output": image, "output_two_stage": rendered}.items():
        channel_first = np.moveaxis(np.asarray(array), -1, -3)
        yield from judge(recording, prefix + key, channel_first, variant, OUTPUT)
    for key, value in {"mse": mse, "psnr": psnr}.items():
        if variant.name == "bf16":  # a single number has no statistics
            expected = recording[prefix + key]
            yield compare(recording.path, prefix + key, value, expected, BF16_DEVIATION)
        else:
            yield from judge(recording, prefix + key, value, variant, SCALAR)
    for layer in range(model.config.num_layers):
        weights = jax.tree.map(lambda w, i=layer: w[i], states)
        for key, array in named_weights(weights).items():
            quantity = f"{prefix}state{layer}/{key}"
            if quantity in recording:
                yield from judge(recording, quantity, array, variant, STATE)


def check_lvsm_gradients(path: Path) -> Iterator[Row]:
    """`lvsm_forward_grads.npz`; inputs and parameters lie in the file without `_grads`."""
    source = load(path.with_name(path.name.replace("_grads", "")))
    recording = load(path)
    for variant in recording.variants():
        model, inputs, targets = _case(source, variant)
        graph, params = nnx.split(model)
        named = published_from_params(_gradient(graph, params, inputs, targets), model)
        prefix = f"{variant.name}/grad_mse/"
        yield from judge_gradients(recording, prefix, named, variant, GRADIENT)
