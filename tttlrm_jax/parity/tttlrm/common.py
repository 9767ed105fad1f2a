"""What the recordings of tttLRM share: operation lists, rule parameters, named gradients."""

from collections.abc import Iterator

import numpy as np
from flax import nnx

from tttlrm_jax.config import ModelConfig, RuleConfig
from tttlrm_jax.convert import params_from_published, published_from_params
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.parity.recording import (
    ROUNDING_MULTIPLE,
    Recording,
    Variant,
    float32_rounding,
    judge,
)
from tttlrm_jax.parity.report import Row, compare
from tttlrm_jax.ttt import FastWeights, Operation

MATRICES = {"w0": "gate", "w1": "down", "w2": "up"}


def operations_from(ops: np.ndarray) -> tuple[Operation, ...]:
    """Rows `start, end, compute, persist, apply`, or LaCT's `start, end, update, apply`."""
    if ops.shape[1] == 4:
        ops = np.insert(ops, 3, ops[:, 2], axis=1)
    return tuple(
        Operation(int(start), int(end), bool(update), bool(persist), bool(apply))
        for start, end, update, persist, apply in ops
    )


def plan_kind(operations: tuple[Operation, ...]) -> str:
    """`single` update or `chunked`: errors grow with the number of updates."""
    return "single" if sum(op.update for op in operations) <= 1 else "chunked"


def rule_config(case: dict, variant: Variant, base: ModelConfig | None = None) -> dict:
    """Fields of `ModelConfig` for a recorded case's rule and precision."""
    base = base or ModelConfig()
    rule = base.rule
    if "muon_update_steps" in case:
        rule = RuleConfig.of("muon", steps=case["muon_update_steps"])
    if case.get("elastic_lambda"):
        decays = {"fisher_decay": "fisher_alpha", "anchor_decay": "anchor_beta"}
        given = {name: case[key] for name, key in decays.items() if key in case}
        rule = RuleConfig.of("elastic", inner=rule, strength=case["elastic_lambda"], **given)
    return {
        "rule": rule,
        "compute_dtype": variant.dtype,
        "param_dtype": variant.dtype,
        "newton_schulz_dtype": variant.newton_schulz_dtype,
    }


def ttt_params(block_config: list[dict]) -> dict:
    """Parameters of the TTT layer in a recorded `block_config`."""
    (layer,) = (part for part in block_config if "FastWeight" in part["type"])
    return layer["params"]


def published_module(tensors: dict[str, np.ndarray], module: type, config: ModelConfig, **kwargs):
    """`module(config, **kwargs)` with the recorded parameters."""
    abstract = nnx.eval_shape(lambda: module(config, **kwargs, rngs=nnx.Rngs(0)))
    return params_from_published(tensors, abstract)


def named_weights(weights: FastWeights) -> dict[str, np.ndarray]:
    """Fast weights as recorded: batch and head on one axis, by published name."""
    arrays = ((key, np.asarray(getattr(weights, name))) for key, name in MATRICES.items())
    return {key: array.reshape(-1, *array.shape[-2:]) for key, array in arrays}


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
            rounding = ROUNDING_MULTIPLE * float32_rounding(recording, quantity, scale)
            actual, reference = grads[name] / scale, expected[name] / scale
            limit = max(tolerance, rounding)
            yield compare(recording.path, quantity, actual, reference, limit, "abs")
        else:
            yield from judge(recording, quantity, grads[name], variant, tolerance)


def judge_input_and_parameter_gradients(
    recording: Recording, prefix: str, module, grads, variant: Variant, tolerance: float
) -> Iterator[Row]:
    """`grads` are those of the module's parameters and of its input."""
    of_params, of_input = grads
    yield from judge(recording, f"{prefix}x", of_input, variant, tolerance)
    named = published_from_params(of_params, module)
    yield from judge_gradients(recording, f"{prefix}param/", named, variant, tolerance)
