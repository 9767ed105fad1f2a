"""The training loop: load, step, log, evaluate, checkpoint; resumes by itself, exactly."""

import contextlib
import dataclasses
import functools
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import grain
import numpy as np

from tttlrm_jax.checkpoints.directories import (
    CHECKPOINTS,
    CONFIG_FILE,
    has_checkpoint,
    newest_step,
    read_config,
    write_config,
)
from tttlrm_jax.checkpoints.runs import RunCheckpoints
from tttlrm_jax.checkpoints.shard_identity import are_the_same_shards, record_shards
from tttlrm_jax.checkpoints.train_state import TrainState
from tttlrm_jax.config import MeshConfig, RunConfig, config_to_dict
from tttlrm_jax.core.errors import ConfigError, InputError
from tttlrm_jax.datasets.pipeline import evaluation_loader, make_loader
from tttlrm_jax.models import build_model, split_model
from tttlrm_jax.parallel.processes import is_first_process, meet
from tttlrm_jax.training.initial import initial_parameters, with_moments_of
from tttlrm_jax.training.logs import RunLog
from tttlrm_jax.training.losses.perceptual_network import (
    check_same_network,
    is_same_network,
    record_network,
    with_network,
)
from tttlrm_jax.training.nonfinite import NonfiniteWatch
from tttlrm_jax.training.objectives.batches import StaticParts, batch_from_arrays
from tttlrm_jax.training.objectives.causal import chunk_views_at
from tttlrm_jax.training.objectives.gaussians import check_supervision
from tttlrm_jax.training.objectives.view_synthesis import check_view_synthesis
from tttlrm_jax.training.optimizer import lr_schedule
from tttlrm_jax.training.stopping import Stopped, StopRequest, listening
from tttlrm_jax.training.tasks.mesh_program import MeshProgram, program_of
from tttlrm_jax.training.tasks.view_counts import view_count_at, with_fewer_inputs
from tttlrm_jax.training.update import init_train_state

PREVIEW_SCENES = 6
_Read = TypeVar("_Read")
# settings that a resumed run may change; the length changes the learning rates still to come
RESUMABLE = {
    "train.num_steps", "train.log_every", "train.eval_every", "train.eval_scenes",
    "train.checkpoint_every", "train.keep_checkpoints", "train.directory",
    "data.cache_directory", "data.render_workers", "data.num_threads", "data.prefetch",
    "train.max_nonfinite",
    *(f"mesh.{field.name}" for field in dataclasses.fields(MeshConfig)),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class RunResult:
    """How a call of `train` ended."""

    step: int
    signal: signal.Signals | None  # what stopped it
    finished: bool  # False: to be resumed
    eval_psnr: float | None
    directory: Path


def train(
    config: RunConfig, *, stop_at: int | None = None, title: str = "",
    stop: StopRequest | None = None,
) -> RunResult:  # fmt: skip
    """Trains to `config.train.num_steps`, or to `stop_at`, from the newest checkpoint if any.

    Files go to `<train.directory>/<name>`: `config.json`, `checkpoints/`, `metrics.jsonl`,
    `tensorboard/`, `previews/`, and by what shards and perceptual network are known again. SIGINT
    and SIGTERM save and end the call; a second one ends it at once. Before the first step there is
    nothing to save. `stop` is that of a caller which listens itself. Interrupted and resumed, a run
    gives the same parameters bit for bit as one without interruption on the same machine and
    versions. Progress is shown under `title`.

    Raises ConfigError if the directory holds a run with other settings (`RESUMABLE` ones may
    differ) or of another perceptual network, InputError if data, weights or directory cannot be
    used; nothing is written then.
    """
    directory = Path(config.train.directory) / config.name
    with contextlib.ExitStack() as resources:
        stop = resources.enter_context(listening(stop))
        try:
            run, state = _prepared(config, directory, title, stop, resources)
        except Stopped:
            return _stopped_before(directory, stop)
        return run.until(state, config.train.num_steps if stop_at is None else stop_at, stop)


def _stopped_before(directory: Path, stop: StopRequest) -> RunResult:
    """The result of a call that took no step: the run is where its newest checkpoint is."""
    return RunResult(newest_step(directory) or 0, stop.signal, False, None, directory)


def _prepared(
    config: RunConfig, directory: Path, title: str, stop: StopRequest,
    resources: contextlib.ExitStack,
) -> "tuple[_Run, TrainState]":  # fmt: skip
    """The parts of a run and the state it goes on from; `resources` closes its files.

    Raises Stopped where `stop` has a signal, in all processes together.
    """
    check_writable(directory)
    changes = changes_since(directory, config)
    described, (config, vgg19, network, warnings) = config, with_network(config)
    if has_checkpoint(directory):
        check_same_network(directory, described.loss, network)
    static, state = _fresh(config)
    program, by_views = program_of(config, static), {}
    for count in set(config.train.view_counts) - {config.data.num_input_views}:
        fewer = config.with_input_views(count)
        by_views[count] = program_of(fewer, static._replace(config=fewer))
    state, vgg19 = program.place(state), program.place_whole(vgg19)
    _end_if_stopped("model", stop)
    batch_size = config.train.batch_size
    shard, num_shards = program.scenes_of_process(batch_size)
    open_loader = functools.partial(
        make_loader, config.data, config.train.seed, batch_size // num_shards,
        shard_index=shard, shard_count=num_shards,
    )  # fmt: skip
    loader = _read_by_all("scenes", open_loader, stop)
    held_out = functools.partial(evaluation_loader, config.data, config.train.eval_scenes)
    eval_batches = _read_by_all("held-out scenes", lambda: list(held_out()), stop)
    check_supervision(batch_from_arrays(eval_batches[0]), config)
    if is_first_process():
        write_run_directory(directory, described)
        record_shards(directory, config.data)
        record_network(directory, network)
    meet("directory of the run")
    checkpoints = RunCheckpoints(directory, config.train.keep_checkpoints)
    resources.callback(checkpoints.close)
    state, data_state, said = checkpoints.restore_newest(state)
    if data_state is not None:
        loader.set_state(data_state)
    log = RunLog(
        directory, int(state.step), config.train.num_steps, title=title,
        silent=not is_first_process(),
    )  # fmt: skip
    resources.callback(log.close)
    for line in said + changes + warnings:
        log.say(line)
    watch = NonfiniteWatch(directory, config.train.max_nonfinite)
    run = _Run(config, program, by_views, vgg19, loader, eval_batches, checkpoints, log, watch)
    return run, state


class _Taken(NamedTuple):
    """A step whose metrics may still be on their way."""

    step: int  # batches seen after it
    metrics: dict[str, Any]
    arrays: dict[str, np.ndarray]  # its batch


@dataclasses.dataclass
class _Run:
    """The parts of a run while it goes on."""

    config: RunConfig
    program: MeshProgram  # for all input views, and evaluation
    by_views: dict[int, MeshProgram]  # for fewer
    vgg19: Any
    loader: grain.DatasetIterator
    eval_batches: list[dict[str, np.ndarray]]
    checkpoints: RunCheckpoints
    log: RunLog
    watch: NonfiniteWatch

    def until(self, state: TrainState, last: int, stop: StopRequest) -> RunResult:
        """Steps until `last` or a signal, then saves.

        Metrics of a step are read after the next one has been dispatched, so that the
        device does not wait for the log.
        """
        settings = self.config.train
        last = min(settings.num_steps, last)
        step = saved_step = int(state.step)  # before the first step there is nothing to save
        pending: _Taken | None = None
        eval_psnr = None
        while step < last and not stop.agreed():
            num_views = view_count_at(self.config, step)
            chunk_views = chunk_views_at(settings, num_views, step)
            arrays = with_fewer_inputs(next(self.loader), num_views, self.config, step)
            program = self.by_views.get(num_views, self.program)
            batch = program.batch(arrays, settings.batch_size, chunk_views)
            state, metrics = program.step(state, batch, self.vgg19, chunk_views)
            step += 1
            self._settle(pending)
            pending = _Taken(step, metrics, arrays)
            if step % settings.eval_every == 0 or step == settings.num_steps:
                pending = self._settle(pending)
                eval_psnr = self._evaluate(step, state.evaluated)
            if step % settings.checkpoint_every == 0:
                self.checkpoints.save(state, self.loader.get_state())
                saved_step = step
            self.log.advance()
        self._settle(pending)
        if saved_step != step:
            self.checkpoints.save(state, self.loader.get_state())
        self.checkpoints.wait()
        if stop.signal is not None:
            self.log.say(f"stopped by {stop.signal.name} at step {step}; the same command resumes")
        return RunResult(
            step=step,
            signal=stop.signal,
            finished=step >= settings.num_steps,
            eval_psnr=eval_psnr,
            directory=Path(settings.directory) / self.config.name,
        )

    def _settle(self, taken: "_Taken | None") -> None:
        """Judges a step that has been taken and logs it if it is one to be logged.

        Raises InputError as `NonfiniteWatch.judge` does.
        """
        if taken is None:
            return
        if taken.step % self.config.train.log_every == 0:
            self._log_step(taken.step, taken.metrics)
        self.watch.judge(taken.step, taken.metrics, taken.arrays)

    def _log_step(self, step: int, metrics: dict[str, Any]) -> None:
        values = {name: float(value) for name, value in metrics.items()}
        schedule = lr_schedule(self.config.optimizer, self.config.train.num_steps)
        values["lr"] = float(np.asarray(schedule(step - 1 - int(values["num_skipped"]))))
        self.log.write("train", step, values)

    def _evaluate(self, step: int, params) -> float:
        scores: dict[str, list[np.ndarray]] = {}
        lost: dict[str, int] = {}
        pictures = []
        for arrays in self.eval_batches:
            rgb, metrics, left_out = self.program.evaluate(params, arrays)
            for name, values in metrics.items():
                scores.setdefault(name, []).append(values)
            lost = {name: lost.get(name, 0) + count for name, count in left_out.items()}
            pictures.append((arrays["input_image"], arrays["target_image"], rgb))
        means = {name: float(np.mean(np.concatenate(parts))) for name, parts in scores.items()}
        self.log.write("eval", step, means | lost)
        columns = zip(*pictures, strict=True)
        self.log.preview(step, *(np.concatenate(column)[:PREVIEW_SCENES] for column in columns))
        return means["psnr"]


def _read_by_all(name: str, read: Callable[[], _Read], stop: StopRequest) -> _Read:
    """`read()` of each process; the first one's before the others', which find what it renders.

    Raises Stopped in all of them where a signal has come to one, before the others begin where it
    came while the first one read.
    """
    result = None
    for reads in (is_first_process(), not is_first_process()):
        with contextlib.suppress(Stopped), stop.at_once():
            result = read() if reads else result
        _end_if_stopped(name, stop)
    assert result is not None  # only a signal leaves it so
    return result


def _end_if_stopped(prepared: str, stop: StopRequest) -> None:
    """Raises Stopped in all processes where a signal has come to one by the time all are here."""
    meet(f"{prepared} prepared")
    if stop.noted_by_any():
        raise Stopped


def _fresh(config: RunConfig) -> tuple[StaticParts, TrainState]:
    if config.model.kind == "lvsm":
        check_view_synthesis(config)
    graph, params = split_model(build_model(config.model, config.train.seed))
    if config.train.init_from is not None:
        params = initial_parameters(config.train.init_from, params)
    state = init_train_state(params, config)
    if config.train.init_moments:
        assert config.train.init_from is not None  # as the configuration was checked
        state = with_moments_of(config.train.init_from, state)
    return StaticParts(graph, config), state


def check_writable(directory: Path) -> None:
    """Raises InputError unless `directory` is one we can write to, or can be made."""
    wanted = (directory / CHECKPOINTS, directory, *directory.absolute().parents)
    nearest = next(path for path in wanted if path.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise InputError.of(
            "train.directory", directory, f"cannot be written ({nearest} is no writable directory)",
            "choose another directory",
        )  # fmt: skip


def write_run_directory(directory: Path, config: Any) -> None:
    """Makes a run's directory and writes its configuration; InputError if that fails."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        write_config(directory, config)
    except OSError as error:
        raise InputError.of(
            "train.directory", directory, f"cannot be written ({error.strerror})",
            "choose another directory",
        ) from error  # fmt: skip


def changes_since(directory: Path, config: RunConfig) -> list[str]:
    """Settings that differ from those the directory's run was started with, in words.

    Raises ConfigError if one of them is not `RESUMABLE`, or the shards are not the run's own: these
    may have been moved, and so may the file of the perceptual network. A run that saved nothing
    binds to none.
    """
    if not ((directory / CONFIG_FILE).exists() and has_checkpoint(directory)):
        return []
    earlier = dict(_flat(config_to_dict(read_config(directory))))
    changed = {
        name: (earlier.get(name), value)
        for name, value in _flat(config_to_dict(config))
        if earlier.get(name) != value
    }
    resumable = set(RESUMABLE)
    looked_at = "data.shard_directory" in changed or Path(config.data.shard_directory).exists()
    if config.data.source == "shards" and looked_at and are_the_same_shards(directory, config.data):
        resumable.add("data.shard_directory")
    if "loss.vgg19_weights" in changed and is_same_network(directory, config.loss):
        resumable.add("loss.vgg19_weights")
    refused = [
        f"{name}={value} (was {old})"
        for name, (old, value) in changed.items()
        if name not in resumable
    ]
    if refused:
        raise ConfigError(
            f"run directory {directory} holds a run with other settings: {', '.join(refused)}; "
            f"choose another name or train.directory"
        )
    return [f"{name} was {old}, is now {value}" for name, (old, value) in changed.items()]


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
