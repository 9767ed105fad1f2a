"""Recordings of fast weights: Newton-Schulz and the chunked update."""

import dataclasses
import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from tttlrm_jax.config import ModelConfig
from tttlrm_jax.parity.recording import VARIANTS, Recording, Variant, quick_jit
from tttlrm_jax.parity.report import Row
from tttlrm_jax.parity.tttlrm.common import MATRICES, operations_from, plan_kind, rule_config
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
SINGLE_CHUNK_BF16 = 0.05  # the last digit of a gradient may flip a rounding in any head
SUMMATION_ORDERS = 8
SMALL_MATRIX = 96  # up to this side hardly any matrix depends on the order of summation

RATES = {"lr0": "gate", "lr1": "down", "lr2": "up"}


# ---- newton_schulz.npz ------------------------------------------------------------------------


_newton_schulz = quick_jit(newton_schulz, static_argnums=(1, 2))


@functools.partial(quick_jit, static_argnames=("steps", "dtype"))
def _newton_schulz_and_vjp(matrix, cotangent, steps, dtype):
    out, pull = jax.vjp(lambda m: newton_schulz(m, steps, jnp.dtype(dtype)), matrix)
    return out, pull(cotangent)[0]


def check_newton_schulz(recording: Recording) -> Iterator[Row]:
    """Iterates and their derivatives, by case, number of steps and precision."""
    bits = _Bits()
    for case in recording.cases("/G"):
        matrix, cotangent = recording[f"{case}/G"], recording[f"{case}/cotangent"]
        smaller = min(matrix.shape[-2:])
        deficient = matrix.any() and np.linalg.matrix_rank(matrix).min() < smaller
        tolerance = NEWTON_SCHULZ_RANK_DEFICIENT if deficient else NEWTON_SCHULZ
        for key in recording.under(f"{case}/steps"):
            steps, name = key.split("/")
            if steps.endswith("_vjp"):
                continue
            prefix, variant = f"{case}/steps{steps}", VARIANTS[name]
            if name == "bf16":
                yield from _judge_bits(recording, f"{prefix}/{name}", matrix, int(steps), bits)
                continue
            given = (jnp.asarray(x, variant.dtype) for x in (matrix, cotangent))
            out, grad = _newton_schulz_and_vjp(*given, int(steps), variant.dtype)
            made = {f"{prefix}/{name}": out, f"{prefix}_vjp/{name}": grad}
            made = {quantity: value for quantity, value in made.items() if quantity in recording}
            yield from recording.judge(made, variant, tolerance)
    if bits.small:
        share = bits.small_differing / bits.small
        yield recording.row("bf16 small matrices that differ in a bit", share, 0.5, "share")


@dataclasses.dataclass
class _Bits:
    """Matrices up to `SMALL_MATRIX`, and those among them that no summation order reproduces."""

    small: int = 0
    small_differing: int = 0


def _judge_bits(recording, quantity: str, matrix, steps: int, bits: _Bits) -> Iterator[Row]:
    """Bit for bit, in that order of summation which comes closest for each matrix.

    Rows and columns are permuted and put back, which changes nothing but the order of the sums
    in the products. In about one small matrix in a hundred, and in most large ones, that order
    decides a bfloat16 rounding, which the iteration amplifies: matrices that no order reproduces
    are judged statistically.
    """
    rng, expected = np.random.default_rng(0), recording[quantity]
    exact = np.zeros(len(matrix), bool)
    results = []
    for trial in range(SUMMATION_ORDERS):
        size = matrix.shape[-2:]
        rows, columns = (np.arange(n) if trial == 0 else rng.permutation(n) for n in size)
        permuted = jnp.asarray(matrix[:, rows][:, :, columns], jnp.float32)
        out = np.asarray(_newton_schulz(permuted, steps, jnp.bfloat16))
        results.append(out)
        exact |= (out == expected[:, rows][:, :, columns]).all(axis=(1, 2))
        if exact.all():
            break
    if max(matrix.shape[-2:]) <= SMALL_MATRIX:
        bits.small += len(exact)
        bits.small_differing += int(np.sum(~exact))
    if exact.all():
        yield recording.row(quantity, 0.0)
    else:
        yield from recording.judge_statistically(quantity, results[0][~exact], expected[~exact])


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
        query, key, value = (one_head[name] for name in ("q", "k", "v"))
        start, dtype = initial_state(weights, rule), jnp.dtype(config.compute_dtype)
        out, state = run_operations(start, query, key, value, rates, operations, rule, dtype)
        out = out[:, 0]
        return jnp.sum(out * cotangent), (out, jax.tree.map(lambda w: w[:, 0], state.weights))

    (value, (out, weights)), grad = jax.value_and_grad(scalar, has_aux=True)(inputs)
    return out, weights, value, grad


def check_fast_weight_update(recording: Recording) -> Iterator[Row]:
    """`fast_weight_update_{variant}.npz`: output, final weights and gradients by case."""
    default = recording.path.stem.split("_")[-1]
    variant = VARIANTS[recording.meta.get("precision", default)]
    inputs = {k: jnp.asarray(v, variant.dtype) for k, v in recording.under("in/").items()}
    cotangent = inputs.pop("R")
    for case in recording.cases("/ops"):
        config = ModelConfig(**rule_config(recording.meta["cases"][case], variant))
        operations = operations_from(recording[f"{case}/ops"])
        out, weights, value, grad = _fast_weight_case(inputs, cotangent, config, operations)
        kind, prefix = plan_kind(operations), f"{case}/"
        weights = {key: getattr(weights, name) for key, name in MATRICES.items()}
        if variant.name == "bf16" and kind == "single":  # deterministic
            made = {"output": out, **weights}
            yield from recording.compare_all(made, SINGLE_CHUNK_BF16, prefix=prefix)
        else:
            yield from recording.judge({"output": out}, variant, FAST_OUTPUT[kind], prefix)
            yield from recording.judge(weights, variant, FAST_WEIGHTS, prefix)
        yield from recording.judge(grad, variant, FAST_GRADIENT[kind], f"{prefix}grad/")
        if variant.name != "bf16":
            yield _judge_sum(recording, f"{case}/scalar", value, out * cotangent, variant, kind)


def _judge_sum(recording, quantity, value, terms, variant: Variant, kind: str) -> Row:
    """A sum that may cancel: its error is judged against the root sum square of its terms."""
    scale = float(jnp.sqrt(jnp.sum(terms * terms)))
    tolerance = 1e-9 if variant.name == "fp64" else FAST_OUTPUT[kind] * terms.size**0.5
    expected = recording[quantity] / scale
    return recording.compare(quantity, value / scale, tolerance, "abs", expected)
