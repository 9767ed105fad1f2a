"""Stated precision: what a matrix product takes in, and what it accumulates in."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def accumulation_dtype(dtype) -> jnp.dtype:
    """float64 for float64 operands, float32 for everything narrower."""
    return jnp.promote_types(dtype, jnp.float32)


def matmul_precision(dtype) -> jax.lax.Precision:
    """Full float32 products where float32 is asked for (no TF32); the default for bfloat16."""
    wide = jnp.dtype(dtype).itemsize >= 4
    return jax.lax.Precision.HIGHEST if wide else jax.lax.Precision.DEFAULT


def einsum(spec: str, *operands: Array, dtype) -> Array:
    """Einsum whose operands are cast to `dtype`; the result is in the accumulation dtype."""
    return jnp.einsum(
        spec,
        *(operand.astype(dtype) for operand in operands),
        precision=matmul_precision(dtype),
        preferred_element_type=accumulation_dtype(dtype),
    )


def round_to(x: Array, dtype) -> Array:
    """Rounds a float32 array to the values `dtype` can hold, keeping its own dtype.

    Unlike a cast there and back, XLA never removes this rounding, so the rounding points are
    the same in every program. The cotangent is rounded too. Identity for float32 and float64.
    """
    info = jnp.finfo(dtype)
    if info.bits >= 32:
        return x
    return jax.lax.reduce_precision(x, info.nexp, info.nmant)


def safe_norm(x: Float[Array, "..."], axis: int) -> Float[Array, "..."]:
    """L2 norm along `axis` (kept as an axis of length 1) with derivative 0, not NaN, at zero."""
    square = jnp.sum(x * x, axis=axis, keepdims=True)
    is_zero = square == 0
    return jnp.where(is_zero, 0.0, jnp.sqrt(jnp.where(is_zero, 1.0, square)))
