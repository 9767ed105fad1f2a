"""Stated precision: what a matrix product takes in, and what it accumulates in."""

import functools
import string

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from tttlrm_jax.core.devices import target_device

# The name, for rematerialisation policies, of a product without batch axes whose derivative rule
# hides that it is one.
NARROW_PRODUCT = "narrow product"


def accumulation_dtype(dtype) -> jnp.dtype:
    """float64 for float64 operands, float32 for everything narrower."""
    return jnp.promote_types(dtype, jnp.float32)


def matmul_precision(dtype) -> jax.lax.Precision:
    """Full float32 products where float32 is asked for (no TF32); the default for bfloat16."""
    wide = jnp.dtype(dtype).itemsize >= 4
    return jax.lax.Precision.HIGHEST if wide else jax.lax.Precision.DEFAULT


def einsum(spec: str, *operands: Array, dtype) -> Array:
    """Einsum of operands rounded to `dtype`, accumulated wide and rounded to `dtype` once.

    The result is held in the accumulation dtype. Derivatives run in `dtype` too, except on CPU:
    there the result of a narrow product is asked for in float32, and derivatives are float32
    (`python -m benchmarks.products`: half the time of float32 operands on a CPU with bfloat16
    instructions). Sums run in another order than with float32 operands, which rounding can turn
    into units in the last place of `dtype`. `...` stands for the same axes in every operand.
    """
    spec, operands, shape = _without_unit_axes(spec, operands)
    wide = accumulation_dtype(dtype)
    narrow = jnp.finfo(dtype).bits < 32
    if narrow and target_device().platform == "cpu":
        operands = tuple(round_to(operand.astype(wide), dtype) for operand in operands)
        out = _narrow_product(spec, dtype, operands)
        out = round_to(out if _has_batch(spec) else checkpoint_name(out, NARROW_PRODUCT), dtype)
    else:
        operands = tuple(operand.astype(dtype) for operand in operands)
        out = jnp.einsum(spec, *operands, precision=matmul_precision(dtype)).astype(wide)
    return out.reshape(shape)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _narrow_product(spec: str, dtype, operands: tuple[Array, ...]) -> Array:
    """The float32 product of operands that `dtype` holds exactly; derivatives are float32."""
    narrow = (operand.astype(dtype) for operand in operands)
    return jnp.einsum(spec, *narrow, preferred_element_type=jnp.float32)


@_narrow_product.defjvp
def _narrow_product_jvp(spec, dtype, primals, tangents):
    wide = functools.partial(jnp.einsum, spec, precision=matmul_precision(jnp.float32))
    _, tangent = jax.jvp(wide, *primals, *tangents)
    return _narrow_product(spec, dtype, *primals), tangent


def _has_batch(spec: str) -> bool:
    """Whether some axis is one of every operand and of the result."""
    terms, out = spec.split("->")
    return bool(set(out).intersection(*terms.split(",")))


def _without_unit_axes(
    spec: str, operands: tuple[Array, ...]
) -> tuple[str, tuple[Array, ...], tuple[int, ...]]:
    """The same product without axes of length 1, and the shape its result shall have.

    XLA's CPU backend gets rid of the transposition around the derivative of a product, but not
    where a batch axis of length 1 is in between: reading column by column then takes several
    times as long as the product.
    """
    leading = string.ascii_uppercase[: operands[0].ndim - len(spec.split(",")[0].strip("."))]
    terms, out = spec.replace("...", leading).split("->")
    named = terms.split(",")
    sizes: dict[str, int] = {}
    for letters, operand in zip(named, operands, strict=True):
        for letter, size in zip(letters, operand.shape, strict=True):
            sizes[letter] = max(size, sizes.get(letter, 0))
    shape = tuple(sizes[letter] for letter in out)
    kept = {letter for letter, size in sizes.items() if size != 1}

    def without(letters: str) -> str:
        return "".join(letter for letter in letters if letter in kept)

    squeezed = tuple(
        operand.reshape(
            [n for letter, n in zip(letters, operand.shape, strict=True) if letter in kept]
        )
        for letters, operand in zip(named, operands, strict=True)
    )
    return f"{','.join(map(without, named))}->{without(out)}", squeezed, shape


def round_to(x: Array, dtype) -> Array:
    """Rounds a float32 array to the values `dtype` can hold, keeping its own dtype.

    Unlike a cast there and back, XLA never removes this rounding, so the rounding points are
    the same in every program. Its derivative is 1. Identity for float32 and float64.
    """
    info = jnp.finfo(dtype)
    return x if info.bits >= 32 else _round(x, info.nexp, info.nmant)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def _round(x, exponent_bits: int, mantissa_bits: int):
    return jax.lax.reduce_precision(x, exponent_bits, mantissa_bits)


@_round.defjvp
def _round_jvp(exponent_bits, mantissa_bits, primals, tangents):
    return _round(primals[0], exponent_bits, mantissa_bits), tangents[0]


def safe_norm(x: Float[Array, "..."], axis: int | tuple[int, ...]) -> Float[Array, "..."]:
    """L2 norm along `axis` (kept as an axis of length 1) with derivative 0, not NaN, at zero."""
    square = jnp.sum(x * x, axis=axis, keepdims=True)
    is_zero = square == 0
    return jnp.where(is_zero, 0.0, jnp.sqrt(jnp.where(is_zero, 1.0, square)))
