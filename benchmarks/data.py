"""Procedural scenes and the input pipeline: `python -m benchmarks.data [--json]`.

Protocol: one warm-up, then the median over `--repeats` rounds, wall clock. Rendering is measured
in one process, and with `--workers` processes through the cache (its start-up of a few seconds per
worker shown apart); loading is measured on a cache just written, hence from the page cache.
"""

import argparse
import json
import os
import statistics
import tempfile
import time

from tttlrm_jax.config import DataConfig, SyntheticConfig
from tttlrm_jax.data import SyntheticScenes, build_cache, make_loader, render_object, scene_seed

SIZES = (64, 128, 256)
SCENES_PER_ROUND = 4
BATCH_SIZE, BATCHES_PER_ROUND = 8, 10


def median_seconds(work, repeats: int) -> float:
    """Median wall time of `work(round)` after one warm-up round."""
    work(0)
    seconds = []
    for number in range(1, repeats + 1):
        start = time.perf_counter()
        work(number)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def measure_rendering(size: int, repeats: int) -> dict:
    """Views per second of one process at size x size pixels."""
    config = SyntheticConfig(height=size, width=size)

    def work(number):
        for index in range(SCENES_PER_ROUND):
            render_object(scene_seed(config, number * SCENES_PER_ROUND + index), config)

    seconds = median_seconds(work, repeats)
    return {
        "name": "render, one process",
        "size": size,
        "views_per_second": SCENES_PER_ROUND * config.num_views / seconds,
    }


def measure_cache(size: int, workers: int, num_scenes: int) -> dict:
    """Views per second of a whole cache build, start of the workers included, once."""
    config = SyntheticConfig(height=size, width=size, num_scenes=num_scenes)
    with tempfile.TemporaryDirectory() as directory:
        start = time.perf_counter()
        path = build_cache(config, directory, workers, progress=False)
        seconds = time.perf_counter() - start
        stored = sum(file.stat().st_size for file in path.rglob("*.npy"))
    return {
        "name": f"build cache, {workers} processes, start included",
        "size": size,
        "views_per_second": num_scenes * config.num_views / seconds,
        "mebibytes_per_scene": stored / num_scenes / 2**20,
    }


def measure_loading(size: int, repeats: int) -> dict:
    """Batches per second of the grain pipeline with its default threads."""
    synthetic = SyntheticConfig(height=size, width=size, num_scenes=32)
    with tempfile.TemporaryDirectory() as directory:
        config = DataConfig(synthetic=synthetic, cache_directory=directory)
        build_cache(synthetic, directory, progress=False)
        source = SyntheticScenes(synthetic, directory)
        loader = make_loader(config, 0, BATCH_SIZE, source=source)

        def work(_):
            for _ in range(BATCHES_PER_ROUND):
                next(loader)

        seconds = median_seconds(work, repeats)
    return {
        "name": f"load, batch {BATCH_SIZE}, 4 input and 4 target views",
        "size": size,
        "batches_per_second": BATCHES_PER_ROUND / seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed of rendering and loading training data.")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--cache-scenes", type=int, default=128)
    options = parser.parse_args()
    results = [measure_rendering(size, options.repeats) for size in SIZES]
    results.append(measure_cache(SIZES[0], options.workers, options.cache_scenes))
    results += [measure_loading(size, options.repeats) for size in SIZES[:2]]
    report = {"cpus": os.cpu_count(), "repeats": options.repeats, "results": results}
    if options.json:
        print(json.dumps(report))
        return
    for result in results:
        figures = {k: round(v, 2) for k, v in result.items() if isinstance(v, float)}
        print(f"{result['name']:<52} {result['size']:>4} px  {figures}")


if __name__ == "__main__":
    main()
