"""Recordings of fast weights: Newton-Schulz, the chunked update, and the TTT layers."""

import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from tttlrm_jax.config import ModelConfig
from tttlrm_jax.convert.shapes import ratio
from tttlrm_jax.models.nn.layers import LINEAR_INIT_STD
from tttlrm_jax.models.nn.ttt_layer import TTTLayer
from tttlrm_jax.parity.recording import (
    VARIANTS,
    Recording,
    Variant,
    judge,
    judge_statistically,
    load,
    quick_jit,
)
from tttlrm_jax.parity.report import Row, compare, row
from tttlrm_jax.parity.tttlrm.common import (
    MATRICES,
    judge_input_and_parameter_gradients,
    named_weights,
    operations_from,
    plan_kind,
    published_module,
    rule_config,
)
from tttlrm_jax.ttt import (
    FastWeights,
    TokenRates,
    initial_state,
    newton_schulz,
    rule_from_config,
    run_operations,
)

# Five times the float32 rounding errors that the recordings' README measured.
NEWTON_SCHULZ = 1e-5
NEWTON_SCHULZ_RANK_DEFICIENT = 4.5e-5
FAST_OUTPUT = {"single": 3e-6, "chunked": 7.5e-6}
FAST_WEIGHTS = 1.5e-5
FAST_GRADIENT = {"single": 1.5e-5, "chunked": 2e-4}
LAYER_OUTPUT = 2e-5
LAYER_GRADIENT = 3.5e-5
SINGLE_CHUNK_BF16 = 0.05  # the last digit of a gradient may flip a rounding in any head
SUMMATION_ORDERS = 8
SMALL_MATRIX = 96  # up to this side hardly any matrix depends on the order of summation

RATES = {"lr0": "gate", "lr1": "down", "lr2": "up"}


# ---- newton_schulz.npz ------------------------------------------------------------------------


@functools.partial(quick_jit, static_argnames=("steps", "dtype"))
def _newton_schulz_and_vjp(matrix, cotangent, steps, dtype):
    out, pull = jax.vjp(lambda m: newton_schulz(m, steps, jnp.dtype(dtype)), matrix)
    return out, pull(cotangent)[0]


def check_newton_schulz(path: Path) -> Iterator[Row]:
    recording = load(path)
    bits = _Bits(0, 0)
    for case in recording.cases("/G"):
        matrix, cotangent = recording[f"{case}/G"], recording[f"{case}/cotangent"]
        smaller = min(matrix.shape[-2:])
        deficient = matrix.any() and np.linalg.matrix_rank(matrix).min() < smaller
        tolerance = NEWTON_SCHULZ_RANK_DEFICIENT if deficient else NEWTON_SCHULZ
        for key in recording.under(f"{case}/steps"):
            name, variant = key.split("/")
            if name.endswith("_vjp"):
                continue
            yield from _check_newton_schulz_steps(
                recording, case, int(name), VARIANTS[variant], matrix, cotangent, tolerance, bits
            )
    if bits.small:
        share = bits.small_differing / bits.small
        yield row(path, "bf16 small matrices that differ in a bit", share, 0.5, "share")


@dataclasses.dataclass
class _Bits:
    """Matrices up to `SMALL_MATRIX`, and those among them that no summation order reproduces."""

    small: int
    small_differing: int


def _check_newton_schulz_steps(recording, case, steps, variant, matrix, cotangent, tolerance, bits):
    matrix, cotangent = (jnp.asarray(x, variant.dtype) for x in (matrix, cotangent))
    out, grad = _newton_schulz_and_vjp(matrix, cotangent, steps, variant.newton_schulz_dtype)
    quantity = f"{case}/steps{steps}/{variant.name}"
    if variant.name == "bf16":
        yield from _judge_bits(recording.path, quantity, matrix, recording[quantity], steps, bits)
        return
    yield from judge(recording, quantity, out, variant, tolerance)
    quantity = f"{case}/steps{steps}_vjp/{variant.name}"
    if quantity in recording:
        yield from judge(recording, quantity, grad, variant, tolerance)


def _judge_bits(file: Path, quantity: str, matrix, expected, steps: int, bits: _Bits):
    """Bit for bit, in that order of summation which comes closest for each matrix.

    Rows and columns are permuted and put back, which changes nothing but the order of the sums
    in the products. In about one small matrix in a hundred, and in most large ones, that order
    decides a bfloat16 rounding, which the iteration amplifies: matrices that no order reproduces
    are judged statistically.
    """
    rng = np.random.default_rng(0)
    exact = np.zeros(len(matrix), bool)
    results = []
    for trial in range(SUMMATION_ORDERS):
        size = matrix.shape[-2:]
        rows, columns = (np.arange(n) if trial == 0 else rng.permutation(n) for n in size)
        permuted = matrix[:, rows][:, :, columns]
        out = np.asarray(_newton_schulz_and_vjp(permuted, permuted, steps, "bfloat16")[0])
        results.append(out)
        exact |= (out == expected[:, rows][:, :, columns]).all(axis=(1, 2))
        if exact.all():
            break
    if max(matrix.shape[-2:]) <= SMALL_MATRIX:
        bits.small += len(exact)
        bits.small_differing += int(np.sum(~exact))
    if exact.all():
        yield row(file, quantity, 0.0, 0.0, "exact")
    else:
        yield from judge_statistically(file, quantity, results[0][~exact], expected[~exact])


# ---- fast_weight_update_{variant}.npz ---------------------------------------------------------


@functools.partial(quick_jit, static_argnames=("config", "operations"))
def _fast_weight_case(inputs, cotangent, config: ModelConfig, operations):
    """Output, final weights, `sum(output * cotangent)` and its gradient.

    The recordings' joint batch and head axis becomes the batch axis here; heads are 1.
    """
    rule = rule_from_config(config)

    def scalar(inputs):
        one_head = {key: value[:, None] for key, value in inputs.items()}
        weights = FastWeights(**{name: one_head[key] for key, name in MATRICES.items()})
        rates = TokenRates(**{name: one_head[key][..., 0] for key, name in RATES.items()})
        out, state = run_operations(
            initial_state(weights, rule),
            one_head["q"],
            one_head["k"],
            one_head["v"],
            rates,
            operations,
            rule,
            jnp.dtype(config.compute_dtype),
        )
        out = out[:, 0]
        return jnp.sum(out * cotangent), (out, jax.tree.map(lambda w: w[:, 0], state.weights))

    (value, (out, weights)), grad = jax.value_and_grad(scalar, has_aux=True)(inputs)
    return out, weights, value, grad


def check_fast_weight_update(path: Path) -> Iterator[Row]:
    recording = load(path)
    variant = VARIANTS[recording.meta.get("precision", path.stem.split("_")[-1])]
    inputs = {k: jnp.asarray(v, variant.dtype) for k, v in recording.under("in/").items()}
    cotangent = inputs.pop("R")
    for case in recording.cases("/ops"):
        config = ModelConfig(**rule_config(recording.meta["cases"][case], variant))
        operations = operations_from(recording[f"{case}/ops"])
        out, weights, value, grad = _fast_weight_case(inputs, cotangent, config, operations)
        kind = plan_kind(operations)
        actual = {"output": (out, FAST_OUTPUT[kind])}
        for key, name in MATRICES.items():
            actual[key] = (getattr(weights, name), FAST_WEIGHTS)
        for key in grad:
            actual[f"grad/{key}"] = (grad[key], FAST_GRADIENT[kind])
        for key, (array, tolerance) in actual.items():
            quantity = f"{case}/{key}"
            deterministic = kind == "single" and not key.startswith("grad/")
            if variant.name == "bf16" and deterministic:
                yield compare(
                    recording.path, quantity, array, recording[quantity], SINGLE_CHUNK_BF16
                )
            else:
                yield from judge(recording, quantity, array, variant, tolerance)
        if variant.name != "bf16":
            yield _judge_sum(recording, f"{case}/scalar", value, out * cotangent, variant, kind)


def _judge_sum(recording, quantity, value, terms, variant, kind) -> Row:
    """A sum that may cancel: its error is judged against the root sum square of its terms."""
    scale = float(jnp.sqrt(jnp.sum(terms * terms)))
    tolerance = 1e-9 if variant.name == "fp64" else FAST_OUTPUT[kind] * terms.size**0.5
    expected = recording[quantity]
    return compare(recording.path, quantity, value / scale, expected / scale, tolerance, "abs")


# ---- ttt_layer.npz, lact_ttt_layer.npz --------------------------------------------------------


@functools.partial(quick_jit, static_argnames=("graph", "operations", "differentiate"))
def _layer_case(graph, params, x, cotangent, operations, differentiate):
    """Output, final weights and, if wanted, gradients of `sum(output * cotangent)`."""

    def scalar(params, x):
        layer = nnx.merge(graph, params)
        out, state = layer(x, operations, layer.initial_state(x.shape[0]))
        return jnp.sum(out * cotangent), (out, state.weights)

    if not differentiate:
        return scalar(params, x)[1], None
    run = jax.value_and_grad(scalar, argnums=(0, 1), has_aux=True)
    (_, result), grads = run(params, x)
    return result, grads


def _layer_config(recording: Recording, case: str, variant: Variant) -> ModelConfig:
    heads, d_head, d_hid = recording["param/w0"].shape
    meta = recording.meta
    d_model = recording["x"].shape[-1]
    return ModelConfig(
        d_model=d_model,
        attention_head_dim=d_model,
        num_ttt_heads=heads,
        ttt_inner_factor=ratio(d_hid, d_head),
        base_lr=meta.get("base_lr", ModelConfig().base_lr),
        output_norm="merged" if recording["param/o_norm.weight"].size == d_model else "head",
        **rule_config({**meta, **meta.get("cases", {}).get(case, {})}, variant),
    )


def check_ttt_layer(path: Path) -> Iterator[Row]:
    recording = load(path)
    for case in recording.cases("/ops"):
        operations = operations_from(recording[f"{case}/ops"])
        for variant in recording.variants(f"{case}/"):
            yield from _check_layer_case(recording, case, operations, variant)


def _check_layer_case(recording, case, operations, variant):
    config = _layer_config(recording, case, variant)
    layer = published_module(
        recording.under("param/"), TTTLayer, config, projection_std=LINEAR_INIT_STD
    )
    graph, params = nnx.split(layer)
    x, cotangent = (jnp.asarray(recording[key], variant.dtype) for key in ("x", "R"))
    prefix = f"{case}/{variant.name}"
    differentiate = f"{prefix}/grad/x" in recording
    (out, weights), grads = _layer_case(graph, params, x, cotangent, operations, differentiate)
    for key, array in {"output": out, **named_weights(weights)}.items():
        yield from judge(recording, f"{prefix}/{key}", array, variant, LAYER_OUTPUT)
    if differentiate:
        single = plan_kind(operations) == "single"
        tolerance = LAYER_GRADIENT if single else FAST_GRADIENT["chunked"]
        yield from judge_input_and_parameter_gradients(
            recording, f"{prefix}/grad/", layer, grads, variant, tolerance
        )
