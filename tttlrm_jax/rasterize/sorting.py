"""Stable sorts by small integer passes: XLA sorts one int32 operand several times faster than two.

Keys are split into digits that share a 32-bit word with the position of the element, so that each
pass of a least-significant-digit radix sort is one sort of unique, single-operand keys.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, UInt, UInt32


def ordered_bits(values: Float[Array, "*shape"]) -> UInt32[Array, "*shape"]:
    """Unsigned numbers in the order of the values rounded to float32 (no NaN); 0 and -0 are one."""
    values = lax.stop_gradient(values).astype(jnp.float32)
    unsigned_zero = jnp.where(values == 0, jnp.float32(0), values)
    bits = lax.bitcast_convert_type(unsigned_zero, jnp.uint32)
    return jnp.where(bits >> 31 == 1, ~bits, bits | jnp.uint32(2**31))


def argsort_float32(key: Float[Array, " element"]) -> Int[Array, " element"]:
    """Stable ascending order of float32 keys (no NaN); equal keys, and 0 and -0, keep theirs."""
    return argsort_uint32(ordered_bits(key), num_bits=32)


def argsort_uint32(key: UInt[Array, " element"], num_bits: int) -> Int[Array, " element"]:
    """Stable ascending order of keys below 2^num_bits."""
    size = key.shape[0]
    if size < 2:
        return jnp.zeros(size, dtype=jnp.int32)
    position_bits = (size - 1).bit_length()
    digit_bits = 32 - position_bits
    if -(-num_bits // max(digit_bits, 1)) > 3:
        return jnp.argsort(key, stable=True).astype(jnp.int32)
    position = lax.iota(jnp.uint32, size)
    position_mask = jnp.uint32(2**position_bits - 1)
    order = position
    for low in range(0, num_bits, digit_bits):
        digit = (key[order] >> low) & jnp.uint32(2**digit_bits - 1)
        packed = lax.sort(digit << position_bits | position, is_stable=False)
        order = order[packed & position_mask]
    return order.astype(jnp.int32)
