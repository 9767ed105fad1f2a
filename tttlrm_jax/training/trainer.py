"""The training loop of every kind of run: load, step, log, evaluate, checkpoint; resumes exactly.

What is trained on what is the business of a task (`training.tasks`).
"""

import contextlib
import dataclasses
import functools
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from jax.profiler import TraceAnnotation

from tttlrm_jax.checkpoints.directories import newest_step
from tttlrm_jax.checkpoints.runs import RunCheckpoints
from tttlrm_jax.checkpoints.train_state import TrainState
from tttlrm_jax.config.run import AnyRun
from tttlrm_jax.parallel.processes import is_first_process, meet
from tttlrm_jax.training.device_fit import check_fits
from tttlrm_jax.training.logs import BOARD, RunLog, SilentLog
from tttlrm_jax.training.nonfinite import NonfiniteWatch
from tttlrm_jax.training.optimizer import lr_schedule
from tttlrm_jax.training.run_directory import (
    changes_since,
    check_writable,
    run_directory,
    write_run_directory,
)
from tttlrm_jax.training.stopping import Stopped, StopRequest, listening
from tttlrm_jax.training.tasks import task_of
from tttlrm_jax.training.tasks.task import Batches, Task
from tttlrm_jax.training.watching.profiling import StepTrace
from tttlrm_jax.training.watching.speed import TERA, SpeedMeter, Work
from tttlrm_jax.training.watching.wandb_log import WandbLog, wandb_package

PREVIEW_SCENES = 6
_Read = TypeVar("_Read")


@dataclasses.dataclass(frozen=True)
class RunResult:
    """How a call of `train` ended."""

    step: int
    signal: signal.Signals | None  # what stopped it
    finished: bool  # False: to be resumed
    eval_psnr: float | None  # None too for tasks that draw no views
    directory: Path


def train(
    config: AnyRun, *, stop_at: int | None = None, title: str = "",
    stop: StopRequest | None = None,
) -> RunResult:  # fmt: skip
    """Trains to `config.train.num_steps`, or to `stop_at`, from the newest checkpoint if any.

    Files go to `<train.directory>/<name>`: `config.json`, `checkpoints/`, `metrics.jsonl`,
    `tensorboard/` (with traces), `previews/`, and by what data and perceptual network are known
    again. SIGINT and SIGTERM save and end the call; a second one ends it at once. Before the first
    step there is nothing to save. `stop` is that of a caller which listens itself. Interrupted and
    resumed, a run gives the same parameters bit for bit as one without interruption on the same
    machine and versions. Progress is shown under `title`.

    Raises ConfigError if the directory holds a run with other settings (`RESUMABLE` ones may
    differ) or of another perceptual network, InputError if data, weights or directory cannot be
    used; nothing is written then.
    """
    directory = run_directory(config)
    with contextlib.ExitStack() as resources:
        stop = resources.enter_context(listening(stop))
        try:
            run, state = _prepared(config, directory, title, stop, resources)
        except Stopped:  # no step was taken: the run is where its newest checkpoint is
            return RunResult(newest_step(directory) or 0, stop.signal, False, None, directory)
        return run.until(state, config.train.num_steps if stop_at is None else stop_at, stop)


def _prepared(
    config: AnyRun, directory: Path, title: str, stop: StopRequest,
    resources: contextlib.ExitStack,
) -> "tuple[_Run, TrainState]":  # fmt: skip
    """The parts of a run and the state it goes on from; `resources` closes its files.

    Raises Stopped where `stop` has a signal, in all processes together.
    """
    check_writable(directory)
    changes = changes_since(directory, config)
    check_fits([config])
    if config.wandb:
        wandb_package(config.wandb)
    kind: Any = task_of(config)
    task: Task = kind(config, directory)
    state = task.init()
    _end_if_stopped("model", stop)
    batches = task.batches(functools.partial(_read_by_all, stop=stop))
    if is_first_process():
        write_run_directory(directory, config)
        task.write_records(directory)
    meet("directory of the run")
    checkpoints = RunCheckpoints(directory, config.train.keep_checkpoints)
    resources.callback(checkpoints.close)
    state, data_state, said = checkpoints.restore_newest(state)
    if data_state is not None:
        batches.set_state(data_state)
    log = _opened_log(directory, int(state.step), config, title)
    resources.callback(log.close)
    meter = SpeedMeter(_devices_of(state))
    for line in [*said, *changes, *task.warnings, *filter(None, [meter.unknown_peak()])]:
        log.say(line)
    watch = NonfiniteWatch(directory, config.train.max_nonfinite)
    return _Run(config, task, batches, checkpoints, log, watch, meter), state


def _opened_log(directory: Path, first_step: int, config: AnyRun, title: str) -> RunLog | SilentLog:
    """The log of the first process; the others have none."""
    if not is_first_process():
        return SilentLog()
    also = WandbLog(directory, config) if config.wandb else None
    return RunLog(directory, first_step, config.train.num_steps, title=title, also=also)


def _devices_of(state: TrainState) -> list[Any]:
    """The devices that a run computes on, of all processes."""
    return list(state.step.sharding.device_set)


class _Taken(NamedTuple):
    """A step whose metrics may still be on their way."""

    step: int  # batches seen after it
    metrics: dict[str, Any]
    arrays: dict[str, np.ndarray]  # its batch


@dataclasses.dataclass
class _Run:
    """The parts of a run while it goes on."""

    config: AnyRun
    task: Task
    batches: Batches
    checkpoints: RunCheckpoints
    log: RunLog | SilentLog
    watch: NonfiniteWatch
    meter: SpeedMeter

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
        with contextlib.closing(self._trace(step + 1, last)) as trace:
            while step < last and not stop.agreed():
                with trace.step(step + 1):
                    state, taken = self._taken(state, step)
                    step += 1
                    with TraceAnnotation("metrics of the step before"):
                        self._settle(pending)
                pending = taken
                if trace.ends_with(step):
                    with self._apart(taken):
                        trace.close()
                if step % settings.eval_every == 0 or step == settings.num_steps:
                    pending = self._settle(pending)
                    with self._apart(taken):
                        eval_psnr = self._evaluate(step, state.evaluated)
                if step % settings.checkpoint_every == 0:
                    with self._apart(taken):
                        self.checkpoints.save(state, self.batches.get_state())
                    saved_step = step
                self.log.advance()
        self._settle(pending)
        if saved_step != step:
            self.checkpoints.save(state, self.batches.get_state())
        self.checkpoints.wait()
        if stop.signal is not None:
            self.log.say(f"stopped by {stop.signal.name} at step {step}; the same command resumes")
        finished = step >= settings.num_steps
        return RunResult(step, stop.signal, finished, eval_psnr, run_directory(self.config))

    def _trace(self, first: int, last: int) -> StepTrace:
        """The trace of this call; in the first process alone."""
        profile = self.config.profile if is_first_process() else ""
        return StepTrace(profile, run_directory(self.config) / BOARD, first, last, self.log.say)

    def _taken(self, state: TrainState, step: int) -> "tuple[TrainState, _Taken]":
        """Takes the step after `step` batches."""
        with TraceAnnotation("wait for data"), self.meter.waiting():
            arrays = self.batches.take(step)
        with TraceAnnotation("dispatch"):
            state, metrics, work = self.task.step(state, arrays, step)
        compiling = self.meter.count(work)
        if compiling:
            self._say_compiled(compiling, work)
        return state, _Taken(step + 1, metrics, arrays)

    def _say_compiled(self, seconds: float, work: Work) -> None:
        self.log.say(
            f"compiled a step in {seconds:.1f} s: {work.views} views, {work.tokens} input tokens, "
            f"{work.flops / TERA:.3g} TFLOP of matrix products"
        )

    @contextlib.contextmanager
    def _apart(self, taken: "_Taken") -> Iterator[None]:
        """While something else is done than steps, all of which end before."""
        jax.block_until_ready(taken.metrics)
        with self.meter.apart():
            yield

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
        self.log.write("train", step, values | self.meter.record())

    def _evaluate(self, step: int, params: Any) -> float | None:
        """Logs the scores of held-out data and shows some of it; returns the PSNR, if any."""
        scores, pictures = self.task.evaluate(params)
        self.log.write("eval", step, scores)
        self.log.preview(step, *(part[:PREVIEW_SCENES] for part in pictures))
        return scores.get("psnr")


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
