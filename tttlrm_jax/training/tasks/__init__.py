"""The kinds of training run, each with the same parts for the trainer (`tasks.task`)."""

from typing import Any

from tttlrm_jax.config import RunConfig
from tttlrm_jax.config.run import AnyRun, SequenceRunConfig
from tttlrm_jax.training.tasks.reconstruction import ReconstructionTask
from tttlrm_jax.training.tasks.sequences import SequenceTask

TASKS: dict[type, Any] = {  # a task takes the configurations of its kind only
    RunConfig: ReconstructionTask,
    SequenceRunConfig: SequenceTask,
}


def task_of(config: AnyRun) -> Any:
    """The entry of `TASKS` for a run."""
    return TASKS[type(config)]
