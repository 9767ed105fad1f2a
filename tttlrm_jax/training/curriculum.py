"""A run of several stages, each of which starts from the weights of the one before it.

    <train.directory>/<curriculum>/1_<stage>/    a run directory as `training.trainer` writes it
    <train.directory>/<curriculum>/2_<stage>/    ...

The same command goes on wherever it was stopped: stages whose last checkpoint is there are passed
by, the next one resumes. Interrupted and resumed, a curriculum gives the same parameters bit for
bit as one without interruption, since its stages do.

What a stage takes over: the averaged weights where the stage before has them (`train.ema_decay`),
else its weights; with `optimizer_state="moments"` Adam's moments too. Schedules of the learning
rate and averages always start anew, as do the counters and the order of the scenes.
"""

import dataclasses
import sys
from pathlib import Path
from typing import Any

from tttlrm_jax.checkpoints.checks import check_same_shapes
from tttlrm_jax.checkpoints.directories import newest_step
from tttlrm_jax.config.run import AnyRun, CurriculumConfig, RunConfig
from tttlrm_jax.core.errors import ConfigError, InputError
from tttlrm_jax.models import abstract_model, split_model
from tttlrm_jax.parallel.processes import is_first_process, meet
from tttlrm_jax.training.device_fit import check_fits
from tttlrm_jax.training.run_directory import changes_since, run_directory
from tttlrm_jax.training.stopping import StopRequest, listening
from tttlrm_jax.training.tasks import task_of
from tttlrm_jax.training.trainer import RunResult, train


def placed_stages(config: CurriculumConfig) -> list[AnyRun]:
    """The runs of a curriculum, with their directories and what they start from."""
    directory = Path(config.stages[0].train.directory) / config.name
    placed: list[AnyRun] = []
    for number, stage in enumerate(config.stages, start=1):
        train_config = dataclasses.replace(stage.train, directory=str(directory))
        if placed:
            moments, before = config.optimizer_state == "moments", str(run_directory(placed[-1]))
            train_config = dataclasses.replace(train_config, init_from=before, init_moments=moments)
        name = f"{number}_{stage.name}"
        placed.append(dataclasses.replace(stage, name=name, train=train_config))
    return placed


def train_curriculum(
    config: CurriculumConfig, *, stop_at: int | None = None, stop: StopRequest | None = None
) -> RunResult:
    """Trains all stages, from where an earlier call ended; returns how the last it reached did.

    `stop_at` counts the steps of all stages together; `stop` is as in `train`. Raises as `train`,
    and ConfigError where stages of one kind have other parameters, or a stage has begun before the
    one it is to start from has ended.
    """
    stages = placed_stages(config)
    with listening(stop) as stop:
        return _train_stages(_checked_first(stages), stages, config, stop_at, stop)


def _checked_first(stages: list[AnyRun]) -> int:
    """Number of the stage to train, after all have been checked."""
    _check_parameters(stages)
    first = _first_unfinished(stages)
    for stage in stages[:first]:
        changes_since(run_directory(stage), stage)
    check_fits(stages, first)
    for stage in stages[first:]:
        task_of(stage).check_data(stage)
    return first


def _train_stages(
    first: int, stages: list[AnyRun], config: CurriculumConfig, stop_at: int | None,
    stop: StopRequest,
) -> RunResult:  # fmt: skip
    """Trains the stages from number `first` on."""
    result = None
    for number in range(first, len(stages)):
        stage = stages[number]
        meet(f"stage {number}")
        title = f"stage {number + 1}/{len(stages)} {config.stages[number].name}"
        if is_first_process():
            print(f"{title}: {_described(stage)}", file=sys.stderr)
        before = sum(earlier.train.num_steps for earlier in stages[:number])
        left = None if stop_at is None else stop_at - before
        result = train(stage, stop_at=left, title=title, stop=stop)
        if not result.finished or (left is not None and left <= stage.train.num_steps):
            break
    assert result is not None
    return result


def _described(stage: AnyRun) -> str:
    train, rate = stage.train, stage.optimizer.peak_lr
    length = f"{train.num_steps} steps of {train.batch_size} scenes"
    return f"{task_of(stage).described(stage)}, {length}, lr {rate:g}"


def _first_unfinished(stages: list[AnyRun]) -> int:
    """Number of the stage to train; the last one where all have ended.

    Raises ConfigError if a later stage has begun.
    """
    steps = [newest_step(run_directory(stage)) for stage in stages]
    goals = [stage.train.num_steps for stage in stages]
    ended = [step is not None and step >= goal for step, goal in zip(steps, goals, strict=True)]
    first = ended.index(False) if False in ended else len(stages) - 1
    for stage, step in zip(stages[first + 1 :], steps[first + 1 :], strict=True):
        if step is not None:
            raise ConfigError.of(
                f"stages.{stages[first].name}.train.num_steps", goals[first],
                f"is not reached, but stage {stage.name} has begun from it",
                f"set it to {steps[first]}, or remove the directories of later stages",
            )  # fmt: skip
    return first


def _check_parameters(stages: list[AnyRun]) -> None:
    shapes = [_shapes(stage.model) for stage in stages]
    for number in range(1, len(stages)):
        before, stage = stages[number - 1], stages[number]
        if _kind_and_rule(before) == _kind_and_rule(stage):
            expected = shapes[number]
            if isinstance(stage, RunConfig) and before.model.patch_size != stage.model.patch_size:
                _check_patches(before, stage)
                patches = before.model.patch_size
                expected = _shapes(dataclasses.replace(stage.model, patch_size=patches))
            try:
                check_same_shapes(shapes[number - 1], expected)
            except InputError as error:
                raise ConfigError(
                    f"stage {stage.name} cannot follow {before.name}: {error}"
                ) from None


def _shapes(model: Any) -> Any:
    return split_model(abstract_model(model))[1]


def _check_patches(before: AnyRun, stage: AnyRun) -> None:
    """Raises ConfigError unless the patches of a stage are those before it, times a number."""
    small, large = before.model.patch_size, stage.model.patch_size
    if large % small:
        raise ConfigError.of(
            f"stages.{stage.name}.model.patch_size", large,
            f"is no multiple of the {small} of stage {before.name}, whose weights it takes",
            "use a multiple",
        )  # fmt: skip


def _kind_and_rule(stage: AnyRun) -> tuple:
    return stage.model.kind, getattr(stage.model, "rule", None)
