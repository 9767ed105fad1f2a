"""Stated precision: what a matrix product takes in, and what it accumulates in."""

import functools
import string

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from tttlrm_jax.core.devices import target_device


def accumulation_dtype(dtype) -> jnp.dtype:
    """float64 for float64 operands, float32 for everything narrower."""
    return jnp.promote_types(dtype, jnp.float32)


def matmul_precision(dtype) -> jax.lax.Precision:
    """Full float32 products where float32 is asked for (no TF32); the default for bfloat16."""
    wide = jnp.dtype(dtype).itemsize >= 4
    return jax.lax.Precision.HIGHEST if wide else jax.lax.Precision.DEFAULT


def einsum(spec: str, *operands: Array, dtype) -> Array:
    """Einsum of operands rounded to `dtype`, accumulated wide and rounded to `dtype` once.

    The result is held in the accumulation dtype. Derivatives run
    in `dtype` too, except on CPU: there narrow products are slow, so the rounded operands are
    multiplied in float32, which is the same up to the order of summation, and derivatives are
    float32. `...` stands for the same axes in every operand.
    """
    spec, operands, shape = _without_unit_axes(spec, operands)
    wide = accumulation_dtype(dtype)
    narrow = jnp.finfo(dtype).bits < 32
    if narrow and target_device().platform == "cpu":
        operands = tuple(round_to(operand.astype(wide), dtype) for operand in operands)
        out = round_to(jnp.einsum(spec, *operands, precision=matmul_precision(wide)), dtype)
    else:
        operands = tuple(operand.astype(dtype) for operand in operands)
        out = jnp.einsum(spec, *operands, precision=matmul_precision(dtype)).astype(wide)
    return out.reshape(shape)


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
