"""Procedural scenes and the input pipeline: `python -m benchmarks.data [--json]`.

Protocol: one warm-up, then the median over `--repeats` rounds, wall clock. Rendering is measured
for every generator in one process (also per second of its CPU time, which a contended machine
stretches less) and in `--workers` processes that are warm; caches and shards are built once, the
start of the processes included. Loading is measured on files just written or, for a run on captures
or shards of its own, on those; hence from the page cache. It is measured with and without
augmentations, and beside it what the run of `--config` takes (see `data_run`): a single run, or
the stage `--stage` of a curriculum. Overrides follow as for `train.py`:

    python -m benchmarks.data --run-only --config configs/scene_curriculum.py --stage 2 \\
        --train.batch-size 1 --loss.missing-vgg19 go_on
"""

import argparse
import concurrent.futures
import json
import multiprocessing
import os
import sys
import tempfile
import time

from benchmarks.arguments import positive
from benchmarks.data_run import (
    chosen_run,
    measure_loading,
    measure_run,
    rendered_sources,
    what_is_fed,
)
from benchmarks.timing import median_seconds
from tttlrm_jax.config import DataConfig, SyntheticConfig
from tttlrm_jax.config.command_line import EXIT_BAD_INPUT
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.datasets.shards.builder import write_shards
from tttlrm_jax.datasets.shards.records import synthetic_records
from tttlrm_jax.datasets.synthetic_cache import build_cache, start_worker
from tttlrm_jax.procedural.generators import GENERATORS, render_scene
from tttlrm_jax.procedural.objects import scene_seed

SIZES = (64, 128, 256)
SCENES_PER_ROUND = 4
BATCH_SIZE = 8


def drawn_by(generator: str, size: int, models: list[str]) -> SyntheticConfig:
    """Scenes of a generator at size x size pixels; `models` are files of the one of that name."""
    return SyntheticConfig(
        generator=generator, height=size, width=size, models=tuple(models),  # type: ignore
        models_credit="measured, not kept",
    )  # fmt: skip


def measure_rendering(config: SyntheticConfig, repeats: int) -> dict:
    """Views per second of one process."""

    def work(number):
        for index in range(SCENES_PER_ROUND):
            render_scene(scene_seed(config, number * SCENES_PER_ROUND + index), config)

    views = SCENES_PER_ROUND * config.num_views
    return {
        "name": f"render {config.generator}, one process",
        "size": config.height,
        "views_per_second": views / median_seconds(work, repeats),
        "views_per_cpu_second": views / median_seconds(work, repeats, time.process_time),
    }


def measure_workers(config: SyntheticConfig, workers: int, repeats: int) -> dict:
    """Views per second of several processes together, once all have rendered."""
    spawn = multiprocessing.get_context("spawn")
    scenes = SCENES_PER_ROUND * workers
    with concurrent.futures.ProcessPoolExecutor(workers, spawn, start_worker) as pool:

        def work(number):
            seeds = [scene_seed(config, number * scenes + index) for index in range(scenes)]
            for views in pool.map(_count_views, seeds, [config] * scenes):
                assert views == config.num_views, "every scene has its views"

        seconds = median_seconds(work, repeats)
    return {
        "name": f"render {config.generator}, {workers} warm processes",
        "size": config.height,
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


def measure_scenes(options: argparse.Namespace) -> list[dict]:
    """Rows of rendering and, unless only that is asked for, of building and loading."""
    results = []
    for generator in options.generators:
        drawn = [drawn_by(generator, size, options.models) for size in options.sizes]
        results += [measure_rendering(config, options.repeats) for config in drawn]
        results.append(measure_workers(drawn[-1], options.workers, options.repeats))
    if options.rendering_only:
        return results
    for measure_building in (measure_cache, measure_shards):
        results.append(measure_building(options.sizes[0], options.workers, options.cache_scenes))
    for size in options.sizes:
        data = DataConfig(synthetic=SyntheticConfig(height=size, width=size))
        with tempfile.TemporaryDirectory() as directory:
            for kind, source in rendered_sources(data, directory).items():
                results += measure_loading(source, kind, BATCH_SIZE, options.repeats)
    return results


def measure(options: argparse.Namespace) -> dict:
    """Everything the options ask for; the run first, since its data may not be there."""
    report = {"cpus": os.cpu_count(), "repeats": options.repeats, "run": None, "results": []}
    of_run = []
    if not options.rendering_only:
        name, run = chosen_run(options.config, options.overrides, options.stage)
        report["run"] = what_is_fed(name, run)
        of_run = measure_run(name, run, options.repeats)
    if not options.run_only:
        report["results"] = measure_scenes(options)
    report["results"] += of_run
    return report


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.data", allow_abbrev=False,
        description="Speed of rendering and loading training data.",
        epilog="Further arguments are overrides of the run, as for train.py.",
    )  # fmt: skip
    add = parser.add_argument
    add("--json", action="store_true", help="print one JSON object")
    add("--repeats", type=positive, default=5)
    add("--workers", type=positive, default=2)
    add("--cache-scenes", type=positive, default=128)
    add("--sizes", type=positive, nargs="+", default=SIZES, help="sides of pictures in pixels")
    add("--generators", nargs="*", choices=GENERATORS, help="default: all; models if named")
    add("--models", nargs="*", default=[], help="ZIP archives, folders or files of models")
    add("--config", default="configs/quickstart.py", help="run or curriculum to be fed")
    add("--stage", type=positive, help="of a curriculum, counted from 1; default: the first")
    parts = parser.add_mutually_exclusive_group()
    parts.add_argument("--rendering-only", action="store_true")
    parts.add_argument("--run-only", action="store_true", help="only what concerns --config")
    options, overrides = parser.parse_known_args(arguments)
    if options.generators is None:
        options.generators = [each for each in GENERATORS if each != "models" or options.models]
    if options.rendering_only and (overrides or options.stage is not None):
        parser.error("--rendering-only reads no run; leave out --stage and overrides of the run")
    options.overrides = overrides
    return options


def main(arguments: list[str] | None = None) -> int:
    options = parsed(arguments)
    try:
        report = measure(options)
    except InputError as error:
        print(f"error: {error}; nothing was measured", file=sys.stderr)
        return EXIT_BAD_INPUT
    if options.json:
        print(json.dumps(report))
        return 0
    if report["run"]:
        print("fed: {name} ({source}): {described}".format(**report["run"]))
    width = max(len(result["name"]) for result in report["results"])
    for result in report["results"]:
        figures = {k: round(v, 2) for k, v in result.items() if isinstance(v, float)}
        print(f"{result['name']:<{width}} {result['size']:>4} px  {figures}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
