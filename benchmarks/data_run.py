"""What a run takes from the input pipeline and what that delivers: rows of `benchmarks.data`.

Rates are in scenes per second of one process: the pipeline alone, and the training step on one
device, whatever the run's mesh. Procedural scenes are rendered for the purpose, `LOADED_SCENES` of
them, and read from a cache and from shards; the scenes of other runs are read where they are.
"""

import dataclasses
import sys
import tempfile

import jax

from benchmarks.timing import median_seconds
from tttlrm_jax.apps.train import parse
from tttlrm_jax.config import DataConfig, MeshConfig, RunConfig
from tttlrm_jax.config.run import CurriculumConfig
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.datasets.pipeline import make_loader
from tttlrm_jax.datasets.shards.builder import write_shards
from tttlrm_jax.datasets.shards.records import synthetic_records
from tttlrm_jax.datasets.synthetic_cache import build_cache
from tttlrm_jax.models import build_model, split_model
from tttlrm_jax.training.losses.perceptual_network import with_network
from tttlrm_jax.training.objectives.batches import StaticParts
from tttlrm_jax.training.objectives.causal import chunk_views_at
from tttlrm_jax.training.objectives.gaussians import check_supervision
from tttlrm_jax.training.tasks import task_of
from tttlrm_jax.training.tasks.mesh_program import MeshProgram
from tttlrm_jax.training.update import init_train_state

BATCHES_PER_ROUND, LOADED_SCENES = 10, 32
OFF = {
    "mirror_probability": 0.0, "reverse_probability": 0.0, "min_crop": 1.0,
    "random_background": 0.0,
}  # fmt: skip
ON = {
    "mirror_probability": 1.0, "reverse_probability": 1.0, "min_crop": 0.7,
    "random_background": 1.0,
}  # fmt: skip


def chosen_run(file: str, overrides: list[str], stage: int | None) -> tuple[str, RunConfig]:
    """The run of a configuration file, or a stage of its curriculum, and what to call it.

    `overrides` are those of `train.py`; `stage` counts from 1, the default. Raises InputError for
    one that is not there and for runs without an input pipeline.
    """
    config = parse([file, *overrides])
    if isinstance(config, CurriculumConfig):
        number = 1 if stage is None else stage
        if not 1 <= number <= len(config.stages):
            raise InputError.of(
                "--stage", number, f"is no stage of {config.name}", f"use 1..{len(config.stages)}"
            )
        run = config.stages[number - 1]
        name = f"{config.name}, stage {number} ({run.name})"
    elif stage is not None:
        raise InputError.of("--stage", stage, f"is given and {file} has no stages", "leave it out")
    else:
        name, run = config.name, config
    if not isinstance(run, RunConfig):
        raise InputError.of(
            "--config", file, "is a run of TTT3R, which renders its rooms as it goes",
            "name a run that reads scenes",
        )  # fmt: skip
    return name, run


def measure_run(name: str, run: RunConfig, repeats: int) -> list[dict]:
    """Loading as the run has it and with all augmentations, and the training step.

    Raises InputError where the run's scenes or what its losses need cannot be read.
    """
    size = run.train.batch_size
    with tempfile.TemporaryDirectory() as directory:
        if run.data.source == "synthetic":
            sources = rendered_sources(run.data, directory)
        else:
            sources = {run.data.source: run.data}
        rows = [
            row
            for kind, data in sources.items()
            for row in measure_loading(data, kind, size, repeats)
        ]
        step = measure_training(name, run, next(iter(sources.values())), repeats)
    for row in rows:
        row["over_consumption"] = row["scenes_per_second"] / step["scenes_per_second"]
    return [*rows, step]


def rendered_sources(config: DataConfig, directory: str) -> dict[str, DataConfig]:
    """The procedural scenes of `config`, as many as are loaded, in a cache and in shards."""
    synthetic = dataclasses.replace(config.synthetic, num_scenes=LOADED_SCENES)
    cache = dataclasses.replace(config, synthetic=synthetic, cache_directory=directory)
    build_cache(synthetic, directory, config.render_workers, progress=False)
    write_shards(directory, {"train": synthetic_records(synthetic)}, progress=False)
    shards = dataclasses.replace(
        cache, source="shards", shard_directory=directory, holdout_every=0,
        capture_height=synthetic.height, capture_width=synthetic.width,
    )  # fmt: skip
    return {"cache": cache, "shards": shards}


def measure_loading(config: DataConfig, kind: str, batch_size: int, repeats: int) -> list[dict]:
    """Scenes per second of the pipeline: as configured, without the augmentations that are on, and
    with all of them in every item (backgrounds where the scenes have masks)."""
    first = next(make_loader(config, 0, batch_size))
    on = dict(ON) if "input_mask" in first else ON | {"random_background": 0.0}
    variants = {
        "": config,
        ", no augmentation": dataclasses.replace(config, **OFF),
        ", augmented": dataclasses.replace(config, **on),
    }
    if variants[", no augmentation"] == config:
        del variants[", no augmentation"]
    what = f", batch {batch_size}, {config.num_input_views} + {config.num_target_views} views"
    return [
        {
            "name": f"load from {kind}{suffix}{what}",
            "size": config.image_size[0],
            "scenes_per_second": scenes_per_second(variant, batch_size, repeats),
        }
        for suffix, variant in variants.items()
    ]


def scenes_per_second(config: DataConfig, batch_size: int, repeats: int) -> float:
    """What the pipeline delivers to somebody who only takes."""
    loader = make_loader(config, 0, batch_size)

    def work(_):
        for _ in range(BATCHES_PER_ROUND):
            next(loader)

    return BATCHES_PER_ROUND * batch_size / median_seconds(work, repeats)


def measure_training(name: str, run: RunConfig, data: DataConfig, repeats: int) -> dict:
    """Scenes per second that the training step consumes, on one device and a batch of `data`."""
    run, vgg19, _, warnings = with_network(run)
    for line in warnings:
        print(line, file=sys.stderr)
    size, views = run.train.batch_size, run.data.num_input_views
    chunk_views = chunk_views_at(run.train, views, 0)
    graph, params = split_model(build_model(run.model, run.train.seed))
    run = dataclasses.replace(run, mesh=MeshConfig())
    program = MeshProgram(StaticParts(graph, run))
    state = program.place(init_train_state(params, run))
    batch = program.batch(next(make_loader(data, 0, size)), size, chunk_views)
    check_supervision(batch, run)

    def work(_):
        nonlocal state  # a step uses up what it is given
        state = jax.block_until_ready(program.step(state, batch, vgg19, chunk_views))[0]

    fewer = " at most" if run.train.view_counts else ""
    return {
        "name": f"training step of {name}, batch {size}, {views} input views{fewer}",
        "size": run.data.image_size[0],
        "scenes_per_second": size / median_seconds(work, repeats),
    }


def what_is_fed(name: str, run: RunConfig) -> dict[str, str]:
    """The run in words, for the report."""
    return {"name": name, "source": run.data.source, "described": task_of(run).described(run)}
