"""Attention in blocks equals attention at once, in value and gradient, under any limit."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tttlrm_jax.models.nn import attention
from tttlrm_jax.models.nn.attention import attend_in_blocks


def inputs():
    keys = jax.random.split(jax.random.key(0), 4)
    return tuple(jax.random.normal(key, (2, 3, 6, 2, 4)) for key in keys)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("max_logits", [2 * 6 * 6, 2 * 6 * 4, 2 * 6 * 2, 1])
def test_blocks_equal_dense(causal, max_logits):
    query, key, value, cotangent = inputs()

    def scalar(q, k, v, limit):
        out = attend_in_blocks(q, k, v, jnp.float32, causal=causal, max_logits=limit)
        return jnp.sum(out * cotangent)

    grad = functools.partial(jax.value_and_grad, argnums=(0, 1, 2))
    dense = jax.jit(grad(lambda *x: scalar(*x, 10**6)))(query, key, value)
    blocks = jax.jit(grad(lambda *x: scalar(*x, max_logits)))(query, key, value)
    for ours, theirs in zip(jax.tree.leaves(blocks), jax.tree.leaves(dense), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("windows_at_once", [1, 2, 4, 5])  # of 6
def test_groups_of_windows_equal_dense(monkeypatch, windows_at_once, causal):
    query, key, value, cotangent = inputs()

    def grads():
        def scalar(*x):
            return jnp.sum(attend_in_blocks(*x, jnp.float32, causal=causal) * cotangent)

        return jax.jit(jax.value_and_grad(scalar, argnums=(0, 1, 2)))(query, key, value)

    dense = grads()
    monkeypatch.setattr(attention, "CPU_GROUP_LOGITS", windows_at_once * 2 * 6 * 6 + 1)
    for ours, theirs in zip(jax.tree.leaves(grads()), jax.tree.leaves(dense), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=2e-6)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="groups are for CPUs")
def test_groups_hold_fewer_logits_at_once(monkeypatch):
    shape = jax.ShapeDtypeStruct((8, 32, 2, 8), jnp.float32)

    def largest():
        program = jax.make_jaxpr(lambda *x: attend_in_blocks(*x, jnp.float32))(shape, shape, shape)
        return max(int(np.prod(size)) for size in _sizes(program.jaxpr))

    assert largest() == 8 * 2 * 32 * 32
    monkeypatch.setattr(attention, "CPU_GROUP_LOGITS", 2 * 2 * 32 * 32)
    assert largest() == max(2 * 2 * 32 * 32, 8 * 32 * 2 * 8)


def test_limit_bounds_the_largest_array():
    shape = jax.ShapeDtypeStruct((1, 4, 64, 2, 8), jnp.float32)
    limit = 64 * 2 * 16

    def largest(max_logits):
        program = jax.make_jaxpr(
            lambda q, k, v: attend_in_blocks(q, k, v, jnp.float32, max_logits=max_logits)
        )(shape, shape, shape)
        return max(int(np.prod(size)) for size in _sizes(program.jaxpr))

    assert largest(limit) <= max(limit, 4 * 64 * 2 * 8)
    assert largest(10**9) == 4 * 2 * 64 * 64


def _sizes(jaxpr):
    for equation in jaxpr.eqns:
        for variable in equation.outvars:
            yield variable.aval.shape
        for parameter in jax.tree.leaves(equation.params, is_leaf=_is_jaxpr):
            if _is_jaxpr(parameter):
                yield from _sizes(getattr(parameter, "jaxpr", parameter))


def _is_jaxpr(value):
    return hasattr(value, "jaxpr") or hasattr(value, "eqns")
