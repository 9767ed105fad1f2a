"""Seconds, memory and matrix-product FLOPs of one function."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

MIB = 2**20
ENOUGH_SECONDS = 10.0  # no further repeat after so long


def measure(function: Callable, arguments: tuple, repeats: int) -> dict[str, float]:
    """Medians of wall and CPU seconds, the least of each, temporary memory, FLOPs, compiling.

    Repeats end early once they have taken `ENOUGH_SECONDS`.
    """
    start = time.perf_counter()
    compiled = jax.jit(function).lower(*arguments).compile()
    compile_seconds = time.perf_counter() - start
    jax.block_until_ready(compiled(*arguments))
    wall, busy = [], []
    for _ in range(repeats):
        begun = time.perf_counter(), time.process_time()
        jax.block_until_ready(compiled(*arguments))
        wall.append(time.perf_counter() - begun[0])
        busy.append(time.process_time() - begun[1])
        if sum(wall) > ENOUGH_SECONDS:
            break
    memory: Any = compiled.memory_analysis()
    return {
        "seconds": statistics.median(wall),
        "least_seconds": min(wall),
        "cpu_seconds": statistics.median(busy),
        "least_cpu_seconds": min(busy),
        "compile_seconds": compile_seconds,
        "mib_temporary": memory.temp_size_in_bytes / MIB,
        "gflop": unrolled_flops(function, arguments) / 1e9,
    }


def unrolled_flops(function: Callable, arguments: tuple) -> float:
    """Matrix-product FLOPs of a function, loop bodies times their number of iterations.

    The compiler's own count takes the body of a loop once. Nothing is run: arguments may be shapes.
    """
    return _jaxpr_flops(jax.make_jaxpr(function)(*arguments).jaxpr)


def _jaxpr_flops(jaxpr) -> float:
    total = 0.0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            left, out = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
            total += 2.0 * np.prod(out) * np.prod([left[axis] for axis in contracted])
        times = equation.params.get("length", 1) if equation.primitive.name == "scan" else 1
        inner = (getattr(p, "jaxpr", p) for p in equation.params.values())
        total += times * sum(_jaxpr_flops(p) for p in inner if hasattr(p, "eqns"))
    return total
