"""Products of bfloat16 matrices, three ways: `python -m benchmarks.products [--json]`.

`native` multiplies as they are and accumulates in float32 (`preferred_element_type`), `widened`
makes the operands float32 first, `einsum` is what the models call (`core.precision`). Shapes are
batch x rows x inner x columns: tokens through fast weights and Newton-Schulz of the published
model, its MLP, and the shipped model's heads. `backward` is both operands' derivatives.

Protocol: compiled apart, one warm-up, the ways in turn in one process, median of wall milliseconds
over the repeats. `off` is the largest difference from `widened`; 0 is bit for bit. That of
`einsum`, whose results are rounded to bfloat16, is the rounding.
"""

import argparse
import functools
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.arguments import positive
from tttlrm_jax.core import precision

SHAPES = ((1, 16256, 256, 256), (1, 1024, 1024, 1024), (1, 4096, 768, 3072), (2, 256, 96, 192))
SPEC = "bij,bjk->bik"


def native(a, b):
    return jnp.einsum(SPEC, a, b, preferred_element_type=jnp.float32)


def widened(a, b):
    return jnp.einsum(SPEC, a.astype(jnp.float32), b.astype(jnp.float32))


def einsum(a, b):
    return precision.einsum(SPEC, a, b, dtype=jnp.bfloat16)


def backward(product: Callable, a, b, cotangent):
    return jax.vjp(product, a, b)[1](cotangent)


def measure(shape: tuple[int, int, int, int], repeats: int) -> list[dict[str, Any]]:
    """One record a way and direction."""
    batch, rows, inner, columns = shape
    keys = jax.random.split(jax.random.key(0), 3)
    a = jax.random.normal(keys[0], (batch, rows, inner), jnp.bfloat16)
    b = jax.random.normal(keys[1], (batch, inner, columns), jnp.bfloat16)
    cotangent = jax.random.normal(keys[2], (batch, rows, columns), jnp.float32)
    records = []
    for kind, arguments in (("forward", (a, b)), ("backward", (a, b, cotangent))):
        ways = {way.__name__: way if kind == "forward" else functools.partial(backward, way)
                for way in (widened, native, einsum)}  # fmt: skip
        for record in _in_turn(ways, arguments, repeats):
            records.append({"shape": "x".join(map(str, shape)), "pass": kind, **record})
    return records


def _in_turn(ways: dict[str, Callable], arguments: tuple, repeats: int) -> list[dict[str, Any]]:
    """Times of the ways, and how far each is off from the first."""
    compiled, compiling, results = {}, {}, {}
    for name, way in ways.items():
        start = time.perf_counter()
        compiled[name] = jax.jit(way).lower(*arguments).compile()
        compiling[name] = time.perf_counter() - start
        results[name] = jax.block_until_ready(compiled[name](*arguments))
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, run in compiled.items():
            start = time.perf_counter()
            jax.block_until_ready(run(*arguments))
            times[name].append(1000 * (time.perf_counter() - start))
    first = next(iter(results.values()))
    return [
        {"way": name, "milliseconds": statistics.median(times[name]),
         "compile_seconds": compiling[name], "off": _difference(first, results[name])}
        for name in ways
    ]  # fmt: skip


def _difference(first: Any, other: Any) -> float:
    """The largest over all arrays."""
    wide = functools.partial(jax.tree.map, lambda x: x.astype(jnp.float32))
    off = jax.tree.map(lambda x, y: jnp.max(jnp.abs(x - y)), wide(first), wide(other))
    return float(max(jax.tree.leaves(off)))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.products", description=__doc__)
    parser.add_argument("--repeats", type=positive, default=30)
    parser.add_argument("--shapes", nargs="+", metavar="BxRxIxC",
                        type=lambda text: tuple(map(positive, text.split("x"))),
                        default=SHAPES)  # fmt: skip
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    options = parser.parse_args(arguments)
    rows = [row for shape in options.shapes for row in measure(shape, options.repeats)]
    device = jax.devices()[0]
    machine = f"{device.platform} {device.device_kind}, JAX {jax.__version__}"
    if options.json:
        print(json.dumps({"machine": machine, "repeats": options.repeats, "rows": rows}))
        return
    print(machine)
    for row in rows:
        print(
            f"{row['shape']:<18} {row['pass']:<9} {row['way']:<8} {row['milliseconds']:9.2f} ms, "
            f"off by {row['off']:.1e}, compiled in {row['compile_seconds']:.2f} s"
        )


if __name__ == "__main__":
    main()
