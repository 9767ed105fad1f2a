"""Stable sorts by small integer passes: XLA sorts one int32 operand several times faster than two.

Keys are split into digits that share a 32-bit word with the position of the element, so that each
pass of a least-significant-digit radix sort is one sort of unique, single-operand keys. On CPU
each pass counts the digits and puts the elements.
"""

import functools

import jax.numpy as jnp
from jax import custom_batching, lax
from jaxtyping import Array, Float, Int, UInt, UInt32

from tttlrm_jax.rasterize.transforms.manual_axes import varying_as
from tttlrm_jax.rasterize.transforms.one_kernel import at, one_kernel, put

_COUNTED_BITS = 11  # of a digit that is counted


def ordered_bits(values: Float[Array, "*shape"]) -> UInt32[Array, "*shape"]:
    """Unsigned numbers in the order of the values rounded to float32 (no NaN); 0 and -0 are one."""
    values = lax.stop_gradient(values).astype(jnp.float32)
    unsigned_zero = jnp.where(values == 0, jnp.float32(0), values)
    bits = lax.bitcast_convert_type(unsigned_zero, jnp.uint32)
    return jnp.where(bits >> 31 == 1, ~bits, bits | jnp.uint32(2**31))


def argsort_float32(key: Float[Array, " element"]) -> Int[Array, " element"]:
    """Stable ascending order of float32 keys (no NaN); equal keys, and 0 and -0, keep theirs."""
    if key.shape[0] < 2:
        return jnp.zeros(key.shape, jnp.int32)
    by_counting = custom_batching.sequential_vmap(functools.partial(_argsort_by_counting, 32))
    by_sorting = functools.partial(argsort_uint32, num_bits=32)
    return lax.platform_dependent(ordered_bits(key), cpu=by_counting, default=by_sorting)


@one_kernel
def _argsort_by_counting(num_bits: int, key: UInt32[Array, " element"]):
    size, mask = key.shape[0], 2**_COUNTED_BITS - 1

    def sort_by_digit(number, order):
        def digit(element):
            shifted = at(key, element) >> (number * _COUNTED_BITS).astype(jnp.uint32)
            return (shifted & mask).astype(jnp.int32)

        def count(element, counts):
            return put(counts, at(counts, digit(element)) + 1, digit(element))

        def add(i, carry):
            total, begins = carry
            return total + at(counts, i), put(begins, total, i)

        def place(i, carry):
            begins, new = carry
            element = at(order, i)
            begins = count(element, begins)  # read after it is written: no copy is made
            return begins, put(new, element, at(begins, digit(element)) - 1)

        nothing = varying_as(key, jnp.zeros(mask + 1, jnp.int32))
        counts = lax.fori_loop(0, size, count, nothing)
        _, begins = lax.fori_loop(0, mask + 1, add, (nothing[0], nothing))
        return lax.fori_loop(0, size, place, (begins, order))[1]

    start = varying_as(key, lax.iota(jnp.int32, size))
    return lax.fori_loop(0, -(-num_bits // _COUNTED_BITS), sort_by_digit, start)


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
