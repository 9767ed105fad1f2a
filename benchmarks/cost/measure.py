"""Seconds, memory and matrix-product FLOPs of one function."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import jax

from tttlrm_jax.training.watching.flops import unrolled_flops

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
