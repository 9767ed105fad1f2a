"""Products of bfloat16 matrices on this device: as they are, and with operands made float32 first.

Command   python -m benchmarks.products [--json]

Both accumulate in float32. The shapes are those of a TTT layer of the published model (tokens by
width by hidden units, and Newton-Schulz) and of the small one. Programs alternate in one process;
medians of so many calls after warm-up, compiling apart.
"""

import argparse
import json
import platform
import statistics
import time

import jax
import jax.numpy as jnp

# batch, rows, inner, columns
SHAPES = ((1, 16256, 256, 256), (1, 1024, 1024, 1024), (1, 4096, 768, 3072), (3, 192, 384, 192))


def native(a, b):
    return jnp.einsum("bij,bjk->bik", a, b, preferred_element_type=jnp.float32)


def widened(a, b):
    return jnp.einsum("bij,bjk->bik", a.astype(jnp.float32), b.astype(jnp.float32))


def measure(shape: tuple[int, int, int, int], repeats: int) -> dict:
    """Milliseconds of both ways, seconds of compiling, and by how much they differ."""
    batch, rows, inner, columns = shape
    keys = jax.random.split(jax.random.key(0))
    a = jax.random.normal(keys[0], (batch, rows, inner), jnp.bfloat16)
    b = jax.random.normal(keys[1], (batch, inner, columns), jnp.bfloat16)
    compiled, compiling, times = {}, {}, {"native": [], "widened": []}
    for function in (native, widened):
        start = time.perf_counter()
        compiled[function.__name__] = jax.jit(function).lower(a, b).compile()
        compiling[function.__name__] = time.perf_counter() - start
    results = {name: jax.block_until_ready(run(a, b)) for name, run in compiled.items()}
    for _ in range(repeats):
        for name, run in compiled.items():
            start = time.perf_counter()
            jax.block_until_ready(run(a, b))
            times[name].append(1000 * (time.perf_counter() - start))
    difference = jnp.max(jnp.abs(results["native"] - results["widened"]))
    return {
        "shape": list(shape),
        "milliseconds": {name: statistics.median(values) for name, values in times.items()},
        "seconds_compiling": compiling,
        "max_difference": float(difference),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = [measure(shape, options.repeats) for shape in SHAPES]
    device = jax.devices()[0].device_kind
    if options.json:
        print(json.dumps({"device": device, "machine": platform.processor(), "rows": rows}))
        return
    print(f"{device}; batch x rows x inner x columns, milliseconds")
    for row in rows:
        ms = row["milliseconds"]
        print(
            f"{'x'.join(map(str, row['shape'])):<22} bfloat16 {ms['native']:8.2f}   as float32 "
            f"{ms['widened']:8.2f}   differ by {row['max_difference']:.1e}"
        )


if __name__ == "__main__":
    main()
