"""Matrix-product FLOPs of a function, from its trace: nothing is compiled or run.

The compiler's own count (`cost_analysis`) takes the body of a loop once, however often it runs; a
model whose layers are scanned would seem to cost one layer.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax


def unrolled_flops(function: Callable, arguments: tuple) -> float:
    """Matrix-product FLOPs of a function, loop bodies times their number of iterations.

    Inside of `shard_map` those of one device. Arguments may be shapes.
    """
    return traced_flops(jax.make_jaxpr(function)(*arguments).jaxpr)


def traced_flops(jaxpr: Any, *, all_devices: bool = False) -> float:
    """The same of a trace; with `all_devices` what `shard_map` maps counts for each of them.

    Products and convolutions count, what is recomputed too; elementwise work does not, nor what is
    inside of a kernel. `while` loops, whose number of iterations is not known, count once, of
    branches the most expensive one.
    """
    total = 0.0
    for equation in jaxpr.eqns:
        total += _OWN.get(equation.primitive.name, _nothing)(equation)
        inner = [traced_flops(each, all_devices=all_devices) for each in _bodies(equation)]
        if equation.primitive.name == "cond":
            total += max(inner)
        else:
            total += _times(equation, all_devices) * sum(inner)
    return total


def _bodies(equation: Any) -> Iterator[Any]:
    """The programs inside of an equation, but for kernels."""
    if equation.primitive.name == "pallas_call":
        return
    for parameter in equation.params.values():
        for each in parameter if isinstance(parameter, tuple) else (parameter,):
            body = getattr(each, "jaxpr", each)
            if hasattr(body, "eqns"):
                yield body


def _times(equation: Any, all_devices: bool) -> int:
    """How often the bodies of an equation run."""
    if equation.primitive.name == "scan":
        return equation.params["length"]
    if equation.primitive.name == "shard_map" and all_devices:
        return equation.params["mesh"].size
    return 1


def _nothing(equation: Any) -> float:
    del equation
    return 0.0


def _of_product(equation: Any) -> float:
    (contracted, _), _ = equation.params["dimension_numbers"]
    left, out = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
    return 2.0 * math.prod(out) * math.prod(left[axis] for axis in contracted)


def _of_convolution(equation: Any) -> float:
    """Each number of the result takes a kernel's worth of products, of one output channel."""
    kernel, out = equation.invars[1].aval.shape, equation.outvars[0].aval.shape
    channels = kernel[equation.params["dimension_numbers"].rhs_spec[0]]
    return 2.0 * math.prod(out) * math.prod(kernel) / max(channels, 1)


_OWN = {"dot_general": _of_product, "conv_general_dilated": _of_convolution}
