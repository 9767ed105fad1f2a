"""Derivative rules that serve forward and reverse mode alike.

`jax.custom_vjp` forbids `jax.jvp`, and under `jax.custom_jvp` JAX transposes the tangent program,
which it cannot do with loops of dynamic length. A linear function with its transpose given by hand
is what both modes need: `jax.jvp` and `jax.linearize` run the function, `jax.vjp`, `jax.grad` and
`jax.linear_transpose` its transpose, and Gauss-Newton methods may mix them. JAX's `linear_call` is
the same without `vmap`.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
from jax.extend.core import ClosedJaxpr, Primitive, jaxpr_as_fun
from jax.interpreters import ad, batching, mlir

from tttlrm_jax.rasterize.transforms.manual_axes import varying_as

Linear = Callable[[Any, Any], Any]  # (residuals, vector) -> vector, linear in its second argument


def both_modes(forward: Callable, tangent: Callable, cotangent: Callable) -> Callable:
    """`f(static, x, fixed)` with the value `forward(static, x, fixed)[0]`, differentiable in x.

    `forward` also returns residuals, from which `tangent(static, residuals, x_dot)` computes the
    derivative along `x_dot` and `cotangent(static, residuals, result_bar)` its transpose. `static`
    is hashable; `fixed` has no derivative. First derivatives only: a second one raises.
    """

    @functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
    def function(static, x, fixed):
        return forward(static, x, fixed)[0]

    @function.defjvp
    def _(static, primals, tangents):
        x, fixed = primals
        result, residuals = forward(static, _differentiated_once(x), fixed)
        along, back = (functools.partial(rule, static) for rule in (tangent, cotangent))
        return result, linear_with_transpose(along, back, residuals, tangents[0], like=result)

    # A sum over devices, where there are any that share x, belongs outside of the pair below.
    return lambda static, x, fixed: function(static, varying_as((x, fixed), x), fixed)


@jax.custom_jvp
def _differentiated_once(x):
    """x, without a derivative."""
    return x


@_differentiated_once.defjvp
def _(primals, tangents):
    raise NotImplementedError(
        "this raster backend has first derivatives only; use the reference backend for second"
    )


def linear_with_transpose(function: Linear, transpose: Linear, residuals, vector, like=None):
    """`function(residuals, vector)`, whose transpose in `vector` is `transpose(residuals, .)`.

    Under `vmap` both are mapped. `residuals` are constants: a derivative in them raises. With
    arrays of the result's types as `like`, reverse mode never traces `function`, which must be free
    of effects.
    """
    residual_leaves, residual_tree = jax.tree.flatten(residuals)
    vector_leaves, vector_tree = jax.tree.flatten(vector)
    pair = _Pair(function, transpose, residual_tree, vector_tree)
    out, out_tree = pair.bind(residual_leaves, vector_leaves, like)
    return jax.tree.unflatten(out_tree, out)


class _Pair(NamedTuple):
    """A linear function and its transpose, and how the arguments of the first are flattened."""

    function: Linear
    transpose: Linear
    residual_tree: Any
    vector_tree: Any

    def bind(self, residual_leaves: Sequence, vector_leaves: Sequence, like=None):
        """(leaves, structure) of the result; `program` is None where `like` tells its types."""
        leaves, program = [*residual_leaves, *vector_leaves], None
        if like is None:
            given = self.unflattened(leaves)
            program, like = jax.make_jaxpr(self.function, return_shape=True)(*given)
        like, tree = jax.tree.flatten(like)
        avals = tuple(map(jax.typeof, like)) if program is None else tuple(program.out_avals)
        out = _linear_p.bind(*leaves, pair=self, program=program, out_avals=avals, out_tree=tree)
        return out, tree

    def unflattened(self, leaves):
        """(residuals, vector)."""
        trees = (self.residual_tree, self.vector_tree)
        return tuple(map(jax.tree.unflatten, trees, self.split(leaves)))

    def split(self, leaves):
        """(of the residuals, of the vector)."""
        count = self.residual_tree.num_leaves
        return list(leaves[:count]), list(leaves[count:])


_linear_p = Primitive("linear_with_transpose")
_linear_p.multiple_results = True


def _run(*leaves, pair: _Pair, program: ClosedJaxpr | None, **_):
    if program is None:
        return jax.tree.leaves(pair.function(*pair.unflattened(leaves)))
    return jaxpr_as_fun(program)(*leaves)


def _avals_and_effects(*_, program: ClosedJaxpr | None, out_avals, **__):
    return out_avals, frozenset() if program is None else program.effects


def _jvp(leaves, tangents, *, pair: _Pair, **others):
    residuals, vector = pair.split(leaves)
    residual_tangents, vector_tangents = pair.split(tangents)
    if not all(isinstance(tangent, ad.Zero) for tangent in residual_tangents):
        raise NotImplementedError("linear_with_transpose has no derivative in its residuals")
    vector_tangents = [ad.instantiate_zeros(tangent) for tangent in vector_tangents]
    bind = functools.partial(_linear_p.bind, pair=pair, **others)
    return bind(*residuals, *vector), bind(*residuals, *vector_tangents)


def _transpose(cotangents, *leaves, pair: _Pair, out_tree, **_):
    residuals, vector = pair.split(leaves)
    transposed = _Pair(pair.transpose, pair.function, pair.residual_tree, out_tree)
    bars, _ = transposed.bind(residuals, [ad.instantiate_zeros(c) for c in cotangents])
    wanted = [
        bar if ad.is_undefined_primal(leaf) else None
        for bar, leaf in zip(bars, vector, strict=True)
    ]
    return [None] * len(residuals) + wanted


def _batch(leaves, axes, *, pair: _Pair, **_):
    size = next(x.shape[axis] for x, axis in zip(leaves, axes, strict=True) if axis is not None)
    residuals, vector = pair.split(leaves)
    residual_axes, vector_axes = pair.split(axes)
    vector = [
        batching.bdim_at_front(x, axis, size) for x, axis in zip(vector, vector_axes, strict=True)
    ]
    in_axes = (jax.tree.unflatten(pair.residual_tree, residual_axes), 0)
    function, transpose = (
        jax.vmap(f, in_axes, axis_size=size) for f in (pair.function, pair.transpose)
    )
    mapped = _Pair(function, transpose, pair.residual_tree, pair.vector_tree)
    out, _ = mapped.bind(residuals, vector)
    return out, [0] * len(out)


_linear_p.def_impl(_run)
_linear_p.def_effectful_abstract_eval(_avals_and_effects)
ad.primitive_jvps[_linear_p] = _jvp
ad.primitive_transposes[_linear_p] = _transpose
batching.primitive_batchers[_linear_p] = _batch
mlir.register_lowering(_linear_p, mlir.lower_fun(_run, multiple_results=True))
_linear_p.to_lojax = _run  # JAX 0.12 asks for it where a program holds Pallas kernels
