"""Recordings of the LaCT view-synthesis model: one pass, two stages, states, gradients."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from tttlrm_jax.convert import published_from_params
from tttlrm_jax.core.types import Cameras, Views
from tttlrm_jax.models import LVSM
from tttlrm_jax.parity.modules import call, published_module
from tttlrm_jax.parity.recording import BF16_DEVIATION, Recording, Variant, quick_jit
from tttlrm_jax.parity.report import Row
from tttlrm_jax.parity.tttlrm.common import judge_gradients, named_weights
from tttlrm_jax.parity.tttlrm.models import GRADIENT, check_tokens, model_config, views_from
from tttlrm_jax.training.losses.terms import mean_squared_error, psnr_of_mse

# Five times the float32 rounding errors that the recordings' README measured.
OUTPUT = 3e-5
STATE = 1e-4
SCALAR = 1e-6


def _tokens(model: LVSM, inputs: Views, targets: Cameras):
    return jnp.concatenate([model.tokenize(inputs), model.tokenize_targets(targets)], axis=1)


def _one_pass(model: LVSM, inputs: Views, targets: Views):
    image = model(inputs, targets.cameras)
    mse = mean_squared_error(image, targets.image)
    return image, mse, psnr_of_mse(mse)


def _two_stages(model: LVSM, inputs: Views, targets: Cameras):
    state = model.reconstruct(inputs)
    return model.render(state, targets), state.weights


def _case(source: Recording, variant: Variant) -> tuple[LVSM, Views, Views]:
    tensors = source.under("param/")
    model = published_module(tensors, LVSM, model_config(tensors, source.meta, variant))
    keys = ("image", "c2w", "fxfycxcy")
    inputs, targets = (
        views_from(*(source[f"in/{kind}_{key}"] for key in keys), dtype=variant.dtype)
        for kind in ("input", "target")
    )
    return model, inputs, targets


def check_lvsm(recording: Recording) -> Iterator[Row]:
    """`lvsm_forward.npz`."""
    for variant in recording.variants():
        prefix = f"{variant.name}/"
        model, inputs, targets = _case(recording, variant)
        tokens = call(model, _tokens, inputs, targets.cameras)
        num_input = inputs.image.shape[1]
        plan = ("full", num_input, tokens.shape, num_input)
        yield from check_tokens(recording, model, tokens, plan, variant, prefix)

        image, mse, psnr = call(model, _one_pass, inputs, targets)
        rendered, states = call(model, _two_stages, inputs, targets.cameras)
        images = {"output": image, "output_two_stage": rendered}
        images = {key: np.moveaxis(np.asarray(x), -1, -3) for key, x in images.items()}
        yield from recording.judge(images, variant, OUTPUT, prefix)
        scores = {"mse": mse, "psnr": psnr}
        if variant.name == "bf16":  # a single number has no statistics
            yield from recording.compare_all(scores, BF16_DEVIATION, prefix=prefix)
        else:
            yield from recording.judge(scores, variant, SCALAR, prefix)
        for layer in range(model.config.num_layers):
            weights = named_weights(jax.tree.map(lambda w, i=layer: w[i], states))
            weights = {f"{prefix}state{layer}/{key}": w for key, w in weights.items()}
            recorded = {key: w for key, w in weights.items() if key in recording}
            yield from recording.judge(recorded, variant, STATE)


def check_lvsm_gradients(recording: Recording) -> Iterator[Row]:
    """`lvsm_forward_grads.npz`; inputs and parameters lie in the file without `_grads`."""
    source = recording.beside(recording.path.name.replace("_grads", ""))
    for variant in recording.variants():
        model, inputs, targets = _case(source, variant)
        graph, params = nnx.split(model)

        def loss(params, inputs, targets, graph=graph):
            return _one_pass(nnx.merge(graph, params), inputs, targets)[1]

        grads = quick_jit(jax.grad(loss))(params, inputs, targets)
        named = published_from_params(grads, model)
        prefix = f"{variant.name}/grad_mse/"
        yield from judge_gradients(recording, prefix, named, variant, GRADIENT)
