"""What the recordings of tttLRM share: operation lists, rule parameters, gradients of modules."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from tttlrm_jax.config import ModelConfig, RuleConfig
from tttlrm_jax.convert import published_from_params
from tttlrm_jax.convert.shapes import ratio
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.parity.recording import ROUNDING_MULTIPLE, Recording, Variant, quick_jit
from tttlrm_jax.parity.report import Row
from tttlrm_jax.ttt import FastWeights, Operation

MATRICES = {"w0": "gate", "w1": "down", "w2": "up"}


def operations_from(ops: np.ndarray) -> tuple[Operation, ...]:
    """Rows `start, end, compute, persist, apply`, or LaCT's `start, end, update, apply`."""
    if ops.shape[1] == 4:
        ops = np.insert(ops, 3, ops[:, 2], axis=1)
    return tuple(Operation(start, end, *map(bool, flags)) for start, end, *flags in ops.tolist())


def plan_kind(operations: tuple[Operation, ...]) -> str:
    """`single` update or `chunked`: errors grow with the number of updates."""
    return "single" if sum(op.update for op in operations) <= 1 else "chunked"


def precision(variant: Variant) -> dict[str, Any]:
    """Fields of `ModelConfig` for a recorded precision."""
    return {
        "compute_dtype": variant.dtype,
        "param_dtype": variant.dtype,
        "newton_schulz_dtype": variant.newton_schulz_dtype,
    }


def rule_config(case: dict, variant: Variant) -> dict[str, Any]:
    """Fields of `ModelConfig` for a recorded case's rule, learning rate and precision."""
    default = ModelConfig()
    rule = default.rule
    if "muon_update_steps" in case:
        rule = RuleConfig.of("muon", steps=case["muon_update_steps"])
    if case.get("elastic_lambda"):
        decays = {"fisher_decay": "fisher_alpha", "anchor_decay": "anchor_beta"}
        given = {name: case[key] for name, key in decays.items() if key in case}
        rule = RuleConfig.of("elastic", inner=rule, strength=case["elastic_lambda"], **given)
    base_lr = case.get("base_lr", default.base_lr)
    return {"rule": rule, "base_lr": base_lr, **precision(variant)}


def ttt_sizes(w0: np.ndarray) -> dict[str, Any]:
    """Fields of `ModelConfig` for recorded fast weights."""
    heads, d_head, d_hid = w0.shape
    return {"num_ttt_heads": heads, "ttt_inner_factor": ratio(d_hid, d_head)}


def ttt_params(block_config: list[dict]) -> dict:
    """Parameters of the TTT layer in a recorded `block_config`."""
    (layer,) = (part for part in block_config if "FastWeight" in part["type"])
    return layer["params"]


def named_weights(weights: FastWeights) -> dict[str, jax.Array]:
    """Fast weights as recorded: batch and head on one axis, by published name."""
    arrays = {key: getattr(weights, name) for key, name in MATRICES.items()}
    return {key: array.reshape(-1, *array.shape[-2:]) for key, array in arrays.items()}


def judge_gradients(
    recording: Recording, prefix: str, grads: dict, variant: Variant, tolerance: float
) -> Iterator[Row]:
    """Gradients by published name.

    That of `lr_fc.bias` nearly cancels, because a common factor on all rates does: in float32
    it is judged against the largest entry of the gradient of `lr_fc.weight`.
    """
    expected = recording.under(prefix)
    for name in sorted(expected.keys() | grads.keys()):
        if name not in expected or name not in grads:
            raise InputError(f"recording {recording.path.name} lacks or exceeds gradient {name}")
        quantity = prefix + name
        if name.endswith("lr_fc.bias") and variant.name == "fp32":
            scale = np.abs(expected[name.removesuffix("bias") + "weight"]).max()
            rounding = ROUNDING_MULTIPLE * recording.float32_rounding(quantity, scale)
            limit, reference = max(tolerance, rounding), expected[name] / scale
            yield recording.compare(quantity, grads[name] / scale, limit, "abs", reference)
        else:
            yield from recording.judge({quantity: grads[name]}, variant, tolerance)


def judge_module(
    recording: Recording,
    prefix: str,
    variant: Variant,
    module: nnx.Module,
    tolerances: tuple[float, float],
    run: Callable[[Any, jax.Array], dict[str, jax.Array]],
) -> Iterator[Row]:
    """What `run(module, x)` gives by name, and, where recorded, gradients of sum(output * R).

    `tolerances` are those of values and of gradients, which are taken by x and all parameters.
    """
    graph, params = nnx.split(module)
    x, cotangent = (jnp.asarray(recording[key], variant.dtype) for key in ("x", "R"))

    def scalar(params, x, cotangent):
        named = run(nnx.merge(graph, params), x)
        return jnp.sum(named["output"] * cotangent), named

    if not recording.under(f"{prefix}grad/"):
        _, named = quick_jit(scalar)(params, x, cotangent)
        yield from recording.judge(named, variant, tolerances[0], prefix)
        return
    function = jax.value_and_grad(scalar, argnums=(0, 1), has_aux=True)
    (_, named), (of_params, of_input) = quick_jit(function)(params, x, cotangent)
    yield from recording.judge(named, variant, tolerances[0], prefix)
    yield from recording.judge({"x": of_input}, variant, tolerances[1], f"{prefix}grad/")
    of_params = published_from_params(of_params, module)
    yield from judge_gradients(recording, f"{prefix}grad/param/", of_params, variant, tolerances[1])
