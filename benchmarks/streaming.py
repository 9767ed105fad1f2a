"""Cost of a stream against its length: `python -m benchmarks.streaming [--json]`.

Protocol: the shipped model's configuration with random weights (cost does not depend on them),
one scene, chunks of `--chunk-views` views of random pixels at the trained resolution. *Live*:
one compiled call per chunk, blocked on; the figure at N chunks is the median over the last half
of the N. *Scan*: one compiled program over N chunks, its Gaussians reduced to a number as they
come; median of `--repeats` after a warm-up, divided by N. CPU time stands beside wall time, since
a machine that is shared slows long programs more than short ones. Memory is what XLA reports for
the compiled program; for live calls further the bytes of all arrays alive after N chunks. Compile
times are apart. The last lines give each figure at the most chunks over that at the fewest.
"""

import argparse
import functools
import json
import statistics
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.arguments import positive
from tttlrm_jax.checkpoints.directories import read_config
from tttlrm_jax.config import ModelConfig
from tttlrm_jax.core.files.packaged_files import packaged
from tttlrm_jax.core.types import Cameras, Chunk, Views
from tttlrm_jax.models import build_model, init_stream, scan_stream, split_model, step


def random_chunk(size: tuple[int, int], chunk_views: int, seed: int) -> Chunk:
    """Views of random pixels by cameras on a sphere."""
    height, width = size
    rng = np.random.default_rng(seed)
    poses = np.tile(np.eye(4, dtype=np.float32), (1, chunk_views, 1, 1))
    poses[..., :3, 3] = rng.standard_normal((1, chunk_views, 3))
    lens = np.tile(np.array([width, width, width / 2, height / 2], np.float32), (1, chunk_views, 1))
    image = rng.random((1, chunk_views, height, width, 3), np.float32)
    cameras = Cameras(jnp.asarray(poses), jnp.asarray(lens), height, width)
    return Chunk(Views(jnp.asarray(image), cameras))


def num_bytes(tree: Any) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))


def mib(count: float) -> float:
    return count / 2**20


def compiled_with_memory(function, *arguments) -> tuple[Any, dict[str, float]]:
    """A compiled function, and what compiling it took and it will take."""
    start = time.perf_counter()
    compiled = jax.jit(function).lower(*arguments).compile()
    memory: Any = compiled.memory_analysis()
    return compiled, {
        "seconds_compile": time.perf_counter() - start,
        "mib_temporary": mib(memory.temp_size_in_bytes),
        "mib_arguments": mib(memory.argument_size_in_bytes),
        "mib_output": mib(memory.output_size_in_bytes),
    }


def measure_live(graph, params, size, chunk_views: int, lengths: list[int]) -> list[dict]:
    """One row per length, from one stream of the greatest length."""
    chunk, state = random_chunk(size, chunk_views, 0), init_stream(params, 1, graph=graph)
    compiled, memory = compiled_with_memory(
        functools.partial(step, graph=graph), params, state, chunk
    )
    jax.block_until_ready(compiled(params, state, chunk))
    seconds, cpu_seconds, rows = [], [], []
    for index in range(max(lengths)):
        chunk = random_chunk(size, chunk_views, index)
        start, cpu_start = time.perf_counter(), time.process_time()
        state, read = jax.block_until_ready(compiled(params, state, chunk))
        seconds.append(time.perf_counter() - start)
        cpu_seconds.append(time.process_time() - cpu_start)
        del read
        if index + 1 in lengths:
            rows.append({
                "how": "live", "chunks": index + 1,
                "seconds_per_chunk": statistics.median(seconds[(index + 1) // 2 :]),
                "cpu_seconds_per_chunk": statistics.median(cpu_seconds[(index + 1) // 2 :]),
                "mib_alive": mib(num_bytes(jax.live_arrays())),
                "mib_state": mib(num_bytes(state)), **memory,
            })  # fmt: skip
    return rows


def measure_scan(graph, params, size, chunk_views: int, length: int, repeats: int) -> dict:
    """One row."""
    chunk, state = random_chunk(size, chunk_views, 0), init_stream(params, 1, graph=graph)
    chunks = jax.tree.map(lambda x: jnp.broadcast_to(x[None], (length, *x.shape)), chunk)

    def run(params, state, chunks):
        return scan_stream(
            params, state, chunks, graph=graph, emit=lambda _, read: jnp.mean(read.opacity_logit)
        )

    compiled, memory = compiled_with_memory(run, params, state, chunks)
    seconds, cpu_seconds = [], []
    for _ in range(repeats + 1):
        start, cpu_start = time.perf_counter(), time.process_time()
        jax.block_until_ready(compiled(params, state, chunks))
        seconds.append(time.perf_counter() - start)
        cpu_seconds.append(time.process_time() - cpu_start)
    return {
        "how": "scan", "chunks": length,
        "seconds_per_chunk": statistics.median(seconds[1:]) / length,
        "cpu_seconds_per_chunk": statistics.median(cpu_seconds[1:]) / length,
        "mib_state": mib(num_bytes(state)), **memory,
    }  # fmt: skip


def growth(rows: list[dict], field: str) -> float:
    """The field at the most chunks over that at the fewest."""
    ordered = sorted(rows, key=lambda row: row["chunks"])
    return ordered[-1][field] / ordered[0][field]


def measure(
    model: ModelConfig, size: tuple[int, int], chunk_views: int, lengths: list[int], repeats: int
) -> dict:
    graph, params = split_model(build_model(model, seed=0))
    live = measure_live(graph, params, size, chunk_views, lengths)
    scan = [measure_scan(graph, params, size, chunk_views, n, repeats) for n in lengths]
    return {
        "protocol": {"repeats": repeats, "statistic": "median", "chunk_views": chunk_views},
        "resolution": list(size), "device": jax.devices()[0].device_kind, "jax": jax.__version__,
        "rows": live + scan,
        "growth": {
            "live seconds per chunk": growth(live, "seconds_per_chunk"),
            "live CPU seconds per chunk": growth(live, "cpu_seconds_per_chunk"),
            "live bytes alive": growth(live, "mib_alive"),
            "scan seconds per chunk": growth(scan, "seconds_per_chunk"),
            "scan CPU seconds per chunk": growth(scan, "cpu_seconds_per_chunk"),
            "scan temporary memory": growth(scan, "mib_temporary"),
        },
    }  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.streaming", description=__doc__)
    parser.add_argument("--chunks", nargs="+", type=positive, default=[8, 32, 128, 512])
    parser.add_argument("--chunk-views", type=positive, default=1)
    parser.add_argument("--repeats", type=positive, default=3)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    options = parser.parse_args(arguments)
    run = read_config(packaged("quickstart"))
    result = measure(
        run.model, run.data.image_size, options.chunk_views, sorted(options.chunks),
        options.repeats,
    )  # fmt: skip
    if options.json:
        print(json.dumps(result, indent=2))
        return
    for row in result["rows"]:
        alive = f", {row['mib_alive']:7.1f} MiB alive" if "mib_alive" in row else ""
        print(
            f"{row['how']} {row['chunks']:>4} chunks: {row['seconds_per_chunk'] * 1e3:8.1f} ms "
            f"({row['cpu_seconds_per_chunk'] * 1e3:.1f} ms CPU) per chunk, "
            f"{row['mib_temporary']:7.1f} MiB temporary, {row['mib_state']:6.1f} MiB state"
            f"{alive}, compile {row['seconds_compile']:.1f} s"
        )
    for name, ratio in result["growth"].items():
        print(f"{name}: x{ratio:.3f} from {min(options.chunks)} to {max(options.chunks)} chunks")


if __name__ == "__main__":
    main()
