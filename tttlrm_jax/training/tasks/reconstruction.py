"""Training from posed views: models that give Gaussians, and models that draw the views."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tttlrm_jax.checkpoints.capture_identity import (
    CAPTURES_FILE,
    changed_captures,
    record_captures,
)
from tttlrm_jax.checkpoints.directories import has_checkpoint
from tttlrm_jax.checkpoints.drawn_models_identity import (
    DRAWN_MODELS_FILE,
    changed_drawn_models,
    draws_models,
    record_drawn_models,
)
from tttlrm_jax.checkpoints.shard_identity import SHARDS_FILE, changed_shards, record_shards
from tttlrm_jax.checkpoints.train_state import TrainState
from tttlrm_jax.config import DataConfig, RunConfig
from tttlrm_jax.core.errors import ConfigError, listed
from tttlrm_jax.datasets.pipeline import evaluation_loader, make_loader
from tttlrm_jax.models import gives
from tttlrm_jax.parallel.mesh import make_mesh
from tttlrm_jax.training.initial import fresh_state
from tttlrm_jax.training.losses.perceptual_network import (
    check_same_network,
    is_same_network,
    record_network,
    with_network,
)
from tttlrm_jax.training.objectives.batches import StaticParts, batch_from_arrays
from tttlrm_jax.training.objectives.causal import chunk_views_at
from tttlrm_jax.training.objectives.gaussians import check_supervision
from tttlrm_jax.training.objectives.view_synthesis import check_crop, check_without_gaussians
from tttlrm_jax.training.tasks.mesh_program import MeshProgram, check_batches
from tttlrm_jax.training.tasks.task import Arrays, Batches, Pictures, ReadByAll, Task, span
from tttlrm_jax.training.tasks.view_counts import view_count_at, with_fewer_inputs
from tttlrm_jax.training.watching.speed import Work


class ReconstructionTask(Task):
    """The task of a `RunConfig`."""

    KINDS = ("tttlrm", "lvsm")

    def __init__(self, config: RunConfig, directory: Path):
        self.config, self._vgg19, self._network, self.warnings = with_network(config)
        self._resumes = has_checkpoint(directory)
        if self._resumes:
            check_same_network(directory, config.loss, self._network)

    def init(self) -> TrainState:
        config = self.config
        check_crop(config)
        if gives(config.model) != "gaussians":
            check_without_gaussians(config)
        graph, state = fresh_state(config, resumes=self._resumes)
        static = StaticParts(graph, config)
        self._program = MeshProgram(static)
        self._by_views = {
            count: MeshProgram(static._replace(config=config.with_input_views(count)))
            for count in set(config.train.view_counts) - {config.data.num_input_views}
        }
        self._vgg19 = self._program.place_whole(self._vgg19)
        return self._program.place(state)

    def batches(self, read: ReadByAll) -> "_LoadedBatches":
        config = self.config
        size = config.train.batch_size
        shard, num_shards = self._program.scenes_of_process(size)
        loader = read("scenes", lambda: make_loader(
            config.data, config.train.seed, size // num_shards, shard_index=shard,
            shard_count=num_shards,
        ))  # fmt: skip
        self._held_out = read(
            "held-out scenes",
            lambda: list(evaluation_loader(config.data, config.train.eval_scenes)),
        )
        check_supervision(batch_from_arrays(self._held_out[0]), config)
        return _LoadedBatches(loader, config)

    def write_records(self, directory: Path) -> None:
        data = self.config.data
        records = (SHARDS_FILE, CAPTURES_FILE, DRAWN_MODELS_FILE)
        known = any((directory / name).exists() for name in records)
        if not (self._resumes and known) or data.changed_scenes == "go_on":
            record_shards(directory, data)
            record_captures(directory, data)
            record_drawn_models(directory, data)
        record_network(directory, self._network)

    def step(
        self, state: TrainState, arrays: Arrays, step: int
    ) -> tuple[TrainState, dict[str, Any], Work]:
        settings, num_views = self.config.train, arrays["input_image"].shape[1]
        chunk_views = chunk_views_at(settings, num_views, step)
        program = self._by_views.get(num_views, self._program)
        batch = program.batch(arrays, settings.batch_size, chunk_views)
        state, metrics = program.step(state, batch, self._vgg19, chunk_views)
        return state, metrics, self._work(num_views, program.step_flops(chunk_views))

    def _work(self, num_views: int, flops: float) -> Work:
        config = self.config
        height, width = config.data.image_size
        inputs = config.train.batch_size * num_views
        targets = config.train.batch_size * config.data.num_target_views
        tokens = inputs * height * width // config.model.patch_size**2
        programs = (self._program, *self._by_views.values())
        seconds = sum(program.compile_seconds for program in programs)
        return Work(inputs + targets, tokens, flops, seconds)

    def evaluate(self, params: Any) -> tuple[dict[str, float], Pictures]:
        scores: dict[str, list[np.ndarray]] = {}
        lost: dict[str, int] = {}
        pictures = []
        for arrays in self._held_out:
            rgb, metrics, left_out = self._program.evaluate(params, arrays)
            for name, values in metrics.items():
                scores.setdefault(name, []).append(values)
            lost = {name: lost.get(name, 0) + count for name, count in left_out.items()}
            pictures.append((arrays["input_image"], arrays["target_image"], rgb))
        means = {name: float(np.mean(np.concatenate(parts))) for name, parts in scores.items()}
        return means | lost, Pictures(*map(np.concatenate, zip(*pictures, strict=True)))

    @staticmethod
    def described(config: RunConfig) -> str:
        height, width = config.data.image_size
        views = span(config.train.view_counts or (config.data.num_input_views,))
        return f"{height}x{width}, {views} input views, plan {config.train.plan}"

    @staticmethod
    def check_mesh(config: RunConfig) -> None:
        mesh = make_mesh(config.mesh)
        for count in (config.data.num_input_views, *config.train.view_counts):
            check_batches(config.with_input_views(count), mesh)

    @staticmethod
    def check_data(config: RunConfig) -> None:
        if config.data.source != "synthetic":
            arrays = next(evaluation_loader(config.data, 1))
            check_supervision(batch_from_arrays(arrays), config)

    @staticmethod
    def harmless_changes(
        config: RunConfig, directory: Path, changed: set[str]
    ) -> tuple[set[str], list[str]]:
        """The place of the same shards, captures or models, and of the same file of the perceptual
        network.

        Raises ConfigError where other data lie at the place that is named, unless
        `data.changed_scenes` says to go on.
        """
        harmless, said = set(), []
        if _kind(config.data) in _IDENTITIES:
            place, changes = _changed_scenes(config.data, directory, changed)
            goes_on = config.data.changed_scenes == "go_on"
            if changes and not goes_on:
                value = _value(config.data, place)
                raise ConfigError.of(
                    place, value if isinstance(value, str) else listed(value, 3),
                    f"is not what the run in {directory} was started with: {listed(changes)}",
                    "name the place where that lies now, choose another name or train.directory, "
                    "or go on with data.changed_scenes=go_on",
                )  # fmt: skip
            harmless |= {place} if goes_on or changes is not None else set()
            said += [f"WARNING: going on with other data: {listed(changes)}"] if changes else []
        if "loss.vgg19_weights" in changed and is_same_network(directory, config.loss):
            harmless.add("loss.vgg19_weights")
        return harmless, said


# kind of scenes -> the field with its place, how it differs from what a run was started with
_IDENTITIES: dict[str, tuple[str, Callable[[Path, DataConfig], list[str] | None]]] = {
    "shards": ("shard_directory", changed_shards),
    "captures": ("capture_directories", changed_captures),
    "models": ("synthetic.models", changed_drawn_models),
}


def _kind(data: DataConfig) -> str:
    return "models" if draws_models(data) else data.source


def _value(data: DataConfig, place: str) -> Any:
    """What a field below `data` holds, by its whole name."""
    return functools.reduce(getattr, place.split(".")[1:], data)


def _changed_scenes(
    data: DataConfig, directory: Path, changed: set[str]
) -> tuple[str, list[str] | None]:
    """The field that says where the scenes lie, and how they differ from the run's; None where that
    is not known. A run that has ended needs its data not: those that are gone are not looked for.
    """
    name, changes_of = _IDENTITIES[_kind(data)]
    field = f"data.{name}"
    value = _value(data, field)
    places = (value,) if isinstance(value, str) else value
    if field in changed or any(Path(place).exists() for place in places):
        return field, changes_of(directory, data)
    return field, None


class _LoadedBatches(Batches):
    """What the loader gives, with fewer input views in some steps."""

    def __init__(self, loader: Any, config: RunConfig):
        self._loader, self._config = loader, config

    def take(self, step: int) -> Arrays:
        num_views = view_count_at(self._config, step)
        return with_fewer_inputs(next(self._loader), num_views, self._config, step)

    def get_state(self) -> dict[str, Any]:
        return self._loader.get_state()

    def set_state(self, state: dict[str, Any]) -> None:
        self._loader.set_state(state)
