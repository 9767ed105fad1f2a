"""Memory per device of training on whole scenes, from compiled programs; nothing is run.

    python -m benchmarks.memory [--views 16 32 64] [--devices 8 16 64] [--json]
        [--remat block linear dots none] [--perceptual] [--deferred False True]
    python -m benchmarks.memory --curriculum configs/NAME.py [--stages 3 5] [--devices 64]

Compiles the training step (loss, gradients, AdamW) of `configs/presets/scene_960x536.py` from
abstract arrays for simulated CPU devices, without the perceptual term unless told; of a curriculum
or another configuration, that of its stages as they stand, with the perceptual term if they have
it, for the largest number of input views. `--deferred` compiles with `train.deferred_rendering`
off, on, or both. Per device, in bytes:

- `state`: parameters and both moments, which the step replaces in place
- `batch`: this device's images and cameras
- `working`: everything else XLA plans at the same time: activations, Gaussians, exchange buffers,
  gradients
- `peak`: their sum

Exact for XLA's CPU backend, whose program differs from an accelerator's: it holds float32
copies of bfloat16 operands (more memory), sorts tile lists in another way, and neither reserves
workspaces of libraries nor loses memory to fragmentation (less). The rasterizer is `balanced`,
which accelerators use.
"""

import dataclasses
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tyro

os.environ.setdefault("MESH_DEVICES", "64")
# Buffers are assigned before machine code is made: no need to optimise that.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_backend_optimization_level=0"

from benchmarks.mesh import compiled_step, memory_of  # sets the number of devices

import jax  # isort: skip

from tttlrm_jax.apps.train import load_config_file
from tttlrm_jax.config import Remat, RunConfig
from tttlrm_jax.config.run import CurriculumConfig
from tttlrm_jax.core.errors import ConfigError
from tttlrm_jax.parallel.mesh import mesh_sizes

CAPACITY = 80  # GB of a device
PRESET = Path(__file__).parents[1] / "configs" / "presets" / "scene_960x536.py"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """All combinations are compiled."""

    views: tuple[int, ...] = (16, 32, 64)
    devices: tuple[int, ...] = (8, 16, 64)
    remat: tuple[Remat, ...] = ("block", "linear", "dots", "none")
    height: int = 536
    width: int = 960
    num_layers: int | None = None  # None: the published number
    perceptual: bool = False  # of the preset
    deferred: tuple[bool, ...] = ()  # train.deferred_rendering; none: as configured
    bands: tuple[int, ...] = ()  # train.rendering_bands, where deferred; none: as configured
    curriculum: str | None = None  # file whose stages, or one run, are compiled on all devices
    stages: tuple[int, ...] = ()  # of the curriculum, from 1; none: all
    json: bool = False


def run_config(options: Options, views: int, devices: int, remat: Remat) -> RunConfig:
    """The run that is compiled: a preset, with the rasterizer of accelerators."""
    size = f"height={options.height},width={options.width},perceptual={options.perceptual}"
    config = load_config_file(f"{PRESET}:views={views},devices={devices},remat={remat},{size}")
    assert isinstance(config, RunConfig)
    return _on_accelerators(config, options)


def _on_accelerators(config: RunConfig, options: Options) -> RunConfig:
    model = config.model
    if options.num_layers is not None:
        model = dataclasses.replace(model, num_layers=options.num_layers)
    raster = dataclasses.replace(config.raster, backend="balanced")
    return dataclasses.replace(config, model=model, raster=raster)


def measure(options: Options) -> Iterator[dict[str, Any]]:
    """One record per policy, number of views and number of devices."""
    for config, devices in _runs(options):
        start = time.perf_counter()
        memory = memory_of(compiled_step(config, jax.devices()[:devices]))
        data, seq, fsdp = mesh_sizes(config.mesh, devices)
        yield {
            "name": config.name, "remat": config.model.remat,
            "views": config.data.num_input_views, "devices": devices,
            "mesh": {"data": data, "seq": seq, "fsdp": fsdp},
            "scenes": config.train.batch_size, "micro_batches": config.train.micro_batches,
            "perceptual": config.loss.perceptual > 0,
            "deferred": config.train.deferred_rendering, "bands": config.train.rendering_bands,
            **memory,
            "fits": memory["peak"] <= CAPACITY * 10**9,
            "compile_seconds": round(time.perf_counter() - start, 1),
        }  # fmt: skip


def _runs(options: Options) -> Iterator[tuple[RunConfig, int]]:
    """What is compiled, and for how many devices."""
    for run, devices in _configured(options):
        for deferred in options.deferred or (run.train.deferred_rendering,):
            for bands in (options.bands or (run.train.rendering_bands,)) if deferred else (1,):
                train = dataclasses.replace(
                    run.train, deferred_rendering=deferred, rendering_bands=bands
                )
                yield dataclasses.replace(run, train=train), devices


def _configured(options: Options) -> Iterator[tuple[RunConfig, int]]:
    if options.curriculum is None:
        for remat in options.remat:
            for views in options.views:
                for devices in options.devices:
                    yield run_config(options, views, devices, remat), devices
        return
    config = load_config_file(options.curriculum)
    stages = config.stages if isinstance(config, CurriculumConfig) else (config,)
    for number in options.stages or range(1, len(stages) + 1):
        for devices in options.devices:
            stage = stages[number - 1]
            if not isinstance(stage, RunConfig):
                raise ConfigError(f"stage {stage.name} is a run of TTT3R; name other --stages")
            yield _on_accelerators(stage, options), devices


def main() -> None:
    options = tyro.cli(Options)
    records = []
    for record in measure(options):
        records.append(record)
        if not options.json:
            parts = ", ".join(
                f"{name} {record[name] / 1e9:.2f}" for name in ("state", "batch", "working", "peak")
            )
            mesh = ", ".join(f"{axis} {size}" for axis, size in record["mesh"].items())
            print(
                f"{record['name']}, {record['remat']}, {record['views']} views, "
                f"{record['devices']} devices ({mesh}), deferred {record['deferred']} in "
                f"{record['bands']} bands, {record['scenes']} scenes in "
                f"{record['micro_batches']} parts: {parts} GB, "
                f"{'fits' if record['fits'] else 'does not fit'} {CAPACITY} GB; compiled in "
                f"{record['compile_seconds']} s",
                flush=True,
            )
    if options.json:
        print(
            json.dumps(
                {
                    "options": dataclasses.asdict(options),
                    "jax": jax.__version__,
                    "records": records,
                },
                indent=2,
            )
        )


if __name__ == "__main__":
    main()
