"""The training loop: load, step, log, evaluate, checkpoint; resumes by itself, exactly."""

import dataclasses
import functools
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import grain
import jax
import numpy as np

from tttlrm_jax.config import RunConfig
from tttlrm_jax.data import make_loader
from tttlrm_jax.errors import ConfigError, InputError
from tttlrm_jax.models import build_model, split_model
from tttlrm_jax.training.checkpoint import CONFIG_FILE, RunCheckpoints, read_config, write_config
from tttlrm_jax.training.logs import RunLog
from tttlrm_jax.training.optimizer import lr_schedule
from tttlrm_jax.training.perceptual import load_vgg19
from tttlrm_jax.training.step import (
    StaticParts,
    TrainState,
    batch_from_arrays,
    init_train_state,
    predict,
    train_step,
)

PREVIEW_SCENES = 6


@dataclasses.dataclass(frozen=True)
class RunResult:
    """How a call of `train` ended."""

    step: int
    finished: bool  # False: stopped by a signal, to be resumed
    eval_psnr: float | None
    directory: Path


class StopRequest:
    """Turns SIGINT and SIGTERM into a flag that the loop reads between steps."""

    def __init__(self):
        self.signal: signal.Signals | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *exception) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.signal is not None:  # a second one means it
            raise KeyboardInterrupt
        self.signal = signal.Signals(number)


def train(config: RunConfig, *, stop_at: int | None = None) -> RunResult:
    """Trains to `config.train.num_steps`, or to `stop_at`, from the newest checkpoint if any.

    Files go to `<train.directory>/<name>`: `config.json`, `checkpoints/`, `metrics.jsonl`,
    `tensorboard/`, `previews/`. SIGINT and SIGTERM save and end the call; a second one ends it
    at once. Interrupted and resumed, a run gives the same parameters bit for bit as one without
    interruption on the same machine and versions.

    Raises ConfigError if the directory holds a run of another model.
    """
    directory = Path(config.train.directory) / config.name
    _prepare_directory(directory, config)
    static, state = _fresh(config)
    loader = make_loader(config.data, config.train.seed, config.train.batch_size)
    eval_batches = evaluation_batches(config)
    checkpoints = RunCheckpoints(directory, config.train.keep_checkpoints)
    newest = checkpoints.latest_step()
    if newest is not None:
        state, data_state = checkpoints.restore(newest, state)
        loader.set_state(data_state)
    log = RunLog(directory, int(state.step), config.train.num_steps)
    if newest is not None:
        log.say(f"resumed {directory} at step {newest}")
    try:
        with StopRequest() as stop:
            return _run(
                config, static, state, loader, eval_batches, checkpoints, log, stop, stop_at
            )
    finally:
        checkpoints.close()
        log.close()


def _run(config, static, state, loader, eval_batches, checkpoints, log, stop, stop_at) -> RunResult:
    """The loop itself. Metrics are read one logging interval late, so steps are not waited for."""
    settings = config.train
    step_function = jax.jit(functools.partial(train_step, static=static))
    eval_function = jax.jit(functools.partial(predict, static=static))
    last = min(settings.num_steps, stop_at or settings.num_steps)
    eval_psnr = None
    saved_step = -1
    step = int(state.step)
    while step < last and stop.signal is None:
        batch = batch_from_arrays(next(loader))
        state, metrics = step_function(state, batch)
        step += 1
        if step % settings.log_every == 0 or step == last:
            _log_step(log, step, metrics, config)
        if step % settings.eval_every == 0 or step == settings.num_steps:
            eval_psnr = _evaluate(log, step, state.params, eval_function, eval_batches)
        if step % settings.checkpoint_every == 0:
            checkpoints.save(state, loader.get_state())
            saved_step = step
        log.advance()
    if saved_step != step:
        checkpoints.save(state, loader.get_state())
    checkpoints.wait()
    if stop.signal is not None:
        log.say(f"stopped by {stop.signal.name} at step {step}; the same command resumes here")
    return RunResult(
        step=step,
        finished=step >= settings.num_steps,
        eval_psnr=eval_psnr,
        directory=Path(settings.directory) / config.name,
    )


def _fresh(config: RunConfig) -> tuple[StaticParts, TrainState]:
    graph, params = split_model(build_model(config.model, config.train.seed))
    vgg19 = load_vgg19(config.loss.vgg19_weights) if config.loss.perceptual else None
    return StaticParts(graph, config, vgg19), init_train_state(params, config)


def _prepare_directory(directory: Path, config: RunConfig) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if (directory / CONFIG_FILE).exists():
            _check_same_model(read_config(directory), config, directory)
        write_config(directory, config)
    except OSError as error:
        raise InputError.of(
            "train.directory", directory, f"cannot be written ({error.strerror})",
            "choose another directory",
        ) from error  # fmt: skip


def _check_same_model(earlier: RunConfig, config: RunConfig, directory: Path) -> None:
    """A run may be resumed with other logging or length, not with another model."""
    changed = [
        f"model.{field.name}={getattr(config.model, field.name)} "
        f"(was {getattr(earlier.model, field.name)})"
        for field in dataclasses.fields(config.model)
        if getattr(config.model, field.name) != getattr(earlier.model, field.name)
    ]
    if changed:
        raise ConfigError(
            f"run directory {directory} holds a run of another model: {', '.join(changed)}; "
            f"choose another name or train.directory"
        )


def evaluation_batches(config: RunConfig) -> list[dict[str, np.ndarray]]:
    """The same held-out scenes every time: other scene seeds where the source has a split."""
    data = dataclasses.replace(
        config.data,
        synthetic=dataclasses.replace(
            config.data.synthetic, split="eval", num_scenes=config.train.eval_scenes
        ),
    )
    batch_size = min(config.train.batch_size, config.train.eval_scenes)
    loader: grain.DatasetIterator = make_loader(
        data, seed=0, batch_size=batch_size, shuffle=False, num_epochs=1
    )
    wanted = max(config.train.eval_scenes // batch_size, 1)
    return [batch for batch, _ in zip(loader, range(wanted), strict=False)]


def _log_step(log: RunLog, step: int, metrics: dict[str, Any], config: RunConfig) -> None:
    values = {name: float(value) for name, value in metrics.items()}
    schedule = lr_schedule(config.optimizer, config.train.num_steps)
    values["lr"] = float(schedule(step - 1 - int(values["num_skipped"])))
    log.write("train", step, values)


def _evaluate(log: RunLog, step: int, params, eval_function, eval_batches) -> float:
    scores, pictures = [], []
    for arrays in eval_batches:
        rendering, metrics = eval_function(params, batch=batch_from_arrays(arrays))
        scores.append(np.asarray(metrics["psnr"]))
        pictures.append((arrays["input_image"], arrays["target_image"], np.asarray(rendering.rgb)))
    psnr = float(np.mean(np.concatenate(scores)))
    log.write("eval", step, {"psnr": psnr})
    columns = [np.concatenate(column)[:PREVIEW_SCENES] for column in zip(*pictures, strict=True)]
    log.preview(step, *columns)
    return psnr
