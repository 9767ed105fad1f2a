"""Functions of each Gaussian apart, taken block by block, so that a CPU's cache holds a block.

Such a function maps `static`, arrays [gaussian, ...], arrays that all Gaussians share, and
constants [gaussian, ...] to arrays [gaussian, ...].
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from tttlrm_jax.rasterize.transforms.forward_mode import both_modes
from tttlrm_jax.rasterize.transforms.manual_axes import varying_as
from tttlrm_jax.rasterize.transforms.one_kernel import one_by_one, one_kernel

BLOCK = 256  # Gaussians


def in_blocks_without_derivative(function: Callable) -> Callable:
    """`function(static, each, shared, fixed)`, whose results may be of any type."""

    def call(static, *arrays):
        return one_by_one(_run)((function, static), *lax.stop_gradient(arrays))

    return call


def in_blocks(function: Callable) -> Callable:
    """`function(static, *x, fixed)` of static, x and fixed, differentiable once in x, which is
    (each, shared)."""

    def forward(static, x, fixed):
        return one_by_one(_run)((function, static), *x, fixed), (x, fixed)

    def tangent(static, residuals, x_dot):
        x, fixed = residuals
        return jax.jvp(lambda *x: function(static, *x, fixed), x, x_dot)[1]

    def cotangent(static, residuals, result_bar):
        (each, shared), fixed = residuals
        each_bar = one_by_one(_pull)((function, static), each, shared, fixed, result_bar)
        # Sums over Gaussians have no place in a kernel; JAX leaves them out where nobody asks.
        _, pull = jax.vjp(lambda shared: function(static, each, shared, fixed), shared)
        each_bar = jax.tree.map(lambda x: jnp.moveaxis(x, -1, 0), each_bar)
        return each_bar, pull(result_bar)[0]

    return both_modes(forward, tangent, cotangent)


def _rows(arrays, first, block: int):
    return jax.tree.map(lambda x: lax.dynamic_slice_in_dim(x, first, block), arrays)


def _put_rows(arrays, rows, first):
    return jax.tree.map(
        lambda x, new: lax.dynamic_update_slice_in_dim(x, new, first, axis=0), arrays, rows
    )


def _blocks(each) -> tuple[int, int, int]:
    """(Gaussians, Gaussians of a block, number of blocks); the last one may repeat Gaussians."""
    count = jax.tree.leaves(each)[0].shape[0]
    block = min(BLOCK, count)
    return count, block, -(-count // block)


@one_kernel
def _run(static, each, shared, fixed):
    function, static = static
    count, block, num_blocks = _blocks(each)

    def step(i, results):
        first = jnp.minimum(i * block, count - block)
        new = function(static, _rows(each, first, block), shared, _rows(fixed, first, block))
        return _put_rows(results, new, first)

    shapes = jax.eval_shape(functools.partial(function, static), each, shared, fixed)
    nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    return lax.fori_loop(0, num_blocks, step, varying_as((each, shared, fixed), nothing))


@one_kernel
def _pull(static, each, shared, fixed, result_bar):
    """Gradient by `each`, with Gaussians along the last axes: blocks of them are written faster."""
    function, static = static
    count, block, num_blocks = _blocks(each)

    def step(i, each_bar):
        first = jnp.minimum(i * block, count - block)
        constants, bar = (_rows(x, first, block) for x in (fixed, result_bar))
        _, pull = jax.vjp(
            lambda each: function(static, each, shared, constants), _rows(each, first, block)
        )
        return jax.tree.map(
            lambda x, new: lax.dynamic_update_slice_in_dim(
                x, jnp.moveaxis(new, 0, -1), first, axis=-1
            ),
            each_bar,
            pull(bar)[0],
        )

    nothing = jax.tree.map(lambda x: jnp.zeros_like(jnp.moveaxis(x, 0, -1)), each)
    nothing = varying_as((each, shared, fixed, result_bar), nothing)
    return lax.fori_loop(0, num_blocks, step, nothing)
