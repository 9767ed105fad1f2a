"""Procedural scenes and the input pipeline: `python -m benchmarks.data [--json]`.

Protocol: one warm-up, then the median over `--repeats` rounds, wall clock. Rendering is measured
for every generator in one process (also per second of its CPU time, which a contended machine
stretches less) and in `--workers` processes that are warm; caches and shards are built once, the
start of the processes included. Loading is measured on files just written, hence from the page
cache, and beside it what a run takes from it: scenes per second of the pipeline and of the training
step of `--config`.
"""

import argparse
import concurrent.futures
import dataclasses
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from pathlib import Path

from tttlrm_jax.commands.train import load_config_file
from tttlrm_jax.config import DataConfig, RunConfig, SyntheticConfig
from tttlrm_jax.data import build_cache, make_loader, scene_seed
from tttlrm_jax.data.generators import GENERATORS, render_scene
from tttlrm_jax.data.scene_records import synthetic_records
from tttlrm_jax.data.shard_builder import write_shards
from tttlrm_jax.data.synthetic_cache import start_worker

SIZES = (64, 128, 256)
SCENES_PER_ROUND = 4
BATCH_SIZE, BATCHES_PER_ROUND, LOADED_SCENES = 8, 10, 32


def median_seconds(work, repeats: int, clock=time.perf_counter) -> float:
    """Median time of `work(round)` after one warm-up round."""
    work(0)
    seconds = []
    for number in range(1, repeats + 1):
        start = clock()
        work(number)
        seconds.append(clock() - start)
    return statistics.median(seconds)


def measure_rendering(generator: str, size: int, repeats: int) -> dict:
    """Views per second of one process at size x size pixels."""
    config = SyntheticConfig(generator=generator, height=size, width=size)  # type: ignore

    def work(number):
        for index in range(SCENES_PER_ROUND):
            render_scene(scene_seed(config, number * SCENES_PER_ROUND + index), config)

    views = SCENES_PER_ROUND * config.num_views
    return {
        "name": f"render {generator}, one process",
        "size": size,
        "views_per_second": views / median_seconds(work, repeats),
        "views_per_cpu_second": views / median_seconds(work, repeats, time.process_time),
    }


def measure_workers(generator: str, size: int, workers: int, repeats: int) -> dict:
    """Views per second of several processes together, once all have rendered."""
    config = SyntheticConfig(generator=generator, height=size, width=size)  # type: ignore
    spawn = multiprocessing.get_context("spawn")
    scenes = SCENES_PER_ROUND * workers
    with concurrent.futures.ProcessPoolExecutor(workers, spawn, start_worker) as pool:

        def work(number):
            seeds = [scene_seed(config, number * scenes + index) for index in range(scenes)]
            for views in pool.map(_count_views, seeds, [config] * scenes):
                assert views == config.num_views, "every scene has its views"

        seconds = median_seconds(work, repeats)
    return {
        "name": f"render {generator}, {workers} warm processes",
        "size": size,
        "views_per_second": scenes * config.num_views / seconds,
    }


def _count_views(seed: int, config: SyntheticConfig) -> int:
    return len(render_scene(seed, config)["image"])


def measure_cache(size: int, workers: int, num_scenes: int) -> dict:
    """Views per second of a whole cache build, start of the workers included, once."""
    config = SyntheticConfig(height=size, width=size, num_scenes=num_scenes)
    with tempfile.TemporaryDirectory() as directory:
        start = time.perf_counter()
        path = build_cache(config, directory, workers, progress=False)
        seconds = time.perf_counter() - start
        stored = sum(file.stat().st_size for file in path.rglob("*.npy"))
    return _building("cache", config, workers, seconds, stored)


def measure_shards(size: int, workers: int, num_scenes: int) -> dict:
    """The same for array_record shards."""
    config = SyntheticConfig(height=size, width=size, num_scenes=num_scenes)
    with tempfile.TemporaryDirectory() as directory:
        start = time.perf_counter()
        path = write_shards(directory, {"train": synthetic_records(config, workers)}, False)
        seconds = time.perf_counter() - start
        stored = sum(file.stat().st_size for file in path.iterdir())
    return _building("shards", config, workers, seconds, stored)


def _building(what: str, config: SyntheticConfig, workers: int, seconds: float, stored: int):
    return {
        "name": f"build {what}, {workers} processes, start included",
        "size": config.height,
        "views_per_second": config.num_scenes * config.num_views / seconds,
        "mebibytes_per_scene": stored / config.num_scenes / 2**20,
    }


def measure_loading(config: DataConfig, kind: str, batch_size: int, repeats: int) -> dict:
    """Scenes per second of the grain pipeline from a cache or from shards of `config`'s scenes."""
    synthetic = dataclasses.replace(config.synthetic, num_scenes=LOADED_SCENES)
    with tempfile.TemporaryDirectory() as directory:
        config = dataclasses.replace(config, synthetic=synthetic, cache_directory=directory)
        if kind == "shards":
            write_shards(directory, {"train": synthetic_records(synthetic)}, progress=False)
            config = dataclasses.replace(
                config, source="shards", shard_directory=directory, holdout_every=0,
                capture_height=synthetic.height, capture_width=synthetic.width,
            )  # fmt: skip
        else:
            build_cache(synthetic, directory, progress=False)
        loader = make_loader(config, 0, batch_size)

        def work(_):
            for _ in range(BATCHES_PER_ROUND):
                next(loader)

        seconds = median_seconds(work, repeats)
    return {
        "name": f"load from {kind}, batch {batch_size}, {config.num_input_views} input and "
        f"{config.num_target_views} target views",
        "size": synthetic.height,
        "scenes_per_second": BATCHES_PER_ROUND * batch_size / seconds,
    }


def measure_training(config: RunConfig, repeats: int) -> dict:
    """Scenes per second that the training step of a run consumes, on one device."""
    import jax

    from tttlrm_jax.models import build_model, split_model
    from tttlrm_jax.training.objective import StaticParts
    from tttlrm_jax.training.program import OneDevice
    from tttlrm_jax.training.step import init_train_state

    graph, params = split_model(build_model(config.model, config.train.seed))
    program = OneDevice(StaticParts(graph, config))
    state, size = init_train_state(params, config), config.train.batch_size
    scenes = dataclasses.replace(config.data.synthetic, num_scenes=size)
    with tempfile.TemporaryDirectory() as directory:
        data = dataclasses.replace(config.data, synthetic=scenes, cache_directory=directory)
        batch = program.batch(next(make_loader(data, 0, size)), size, config.train.chunk_views)

    def work(_):
        jax.block_until_ready(program.step(state, batch, None, config.train.chunk_views))

    seconds = median_seconds(work, repeats)
    return {
        "name": f"training step of {config.name}, batch {size}",
        "size": scenes.height,
        "scenes_per_second": size / seconds,
    }


def measure(options: argparse.Namespace) -> list[dict]:
    """Everything the options ask for."""
    results = []
    for generator in options.generators:
        results += [measure_rendering(generator, size, options.repeats) for size in options.sizes]
        results.append(
            measure_workers(generator, options.sizes[-1], options.workers, options.repeats)
        )
    if options.rendering_only:
        return results
    smallest = options.sizes[0]
    for measure_building in (measure_cache, measure_shards):
        results.append(measure_building(smallest, options.workers, options.cache_scenes))
    for size in options.sizes:
        data = DataConfig(synthetic=SyntheticConfig(height=size, width=size))
        for kind in ("cache", "shards"):
            results.append(measure_loading(data, kind, BATCH_SIZE, options.repeats))
    run = load_config_file(Path(options.config))
    if isinstance(run, RunConfig) and run.data.source == "synthetic":
        for kind in ("cache", "shards"):
            results.append(measure_loading(run.data, kind, run.train.batch_size, options.repeats))
        results.append(measure_training(run, options.repeats))
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed of rendering and loading training data.")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--cache-scenes", type=int, default=128)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--generators", nargs="*", choices=GENERATORS, default=list(GENERATORS))
    parser.add_argument("--config", default="configs/quickstart.py", help="run to be fed")
    parser.add_argument("--rendering-only", action="store_true")
    options = parser.parse_args()
    results = measure(options)
    report = {"cpus": os.cpu_count(), "repeats": options.repeats, "results": results}
    if options.json:
        print(json.dumps(report))
        return
    for result in results:
        figures = {k: round(v, 2) for k, v in result.items() if isinstance(v, float)}
        print(f"{result['name']:<58} {result['size']:>4} px  {figures}")


if __name__ == "__main__":
    main()
