"""A run of several stages, each of which starts from the weights of the one before it."""

import dataclasses
from typing import Literal

from tttlrm_jax.config.run import RunConfig
from tttlrm_jax.config.sequence_training import SequenceRunConfig
from tttlrm_jax.config.validation import check_fields, require, require_directory_name

AnyRun = RunConfig | SequenceRunConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class CurriculumConfig:
    """Stages in order; names of stages become those of their run directories."""

    name: str
    stages: tuple[AnyRun, ...]  # of one kind
    optimizer_state: Literal["reset", "moments"] = "reset"  # what a stage does with Adam's moments

    def __post_init__(self):
        check_fields("curriculum", self)
        require_directory_name("name", self.name)
        require(len(self.stages) > 0, "stages", self.stages, "are none", "give at least one")
        kinds = {type(stage).__name__ for stage in self.stages}
        require(len(kinds) == 1, "stages", sorted(kinds), "are of several kinds", "use one")
        for stage in self.stages[1:]:
            require(
                stage.train.init_from is None, f"stages.{stage.name}.train.init_from",
                stage.train.init_from, "is set in a stage that follows another",
                "leave it out: stages start from the one before them",
            )  # fmt: skip
            require(
                stage.train.directory == self.stages[0].train.directory,
                f"stages.{stage.name}.train.directory", stage.train.directory,
                f"is not that of the first stage, {self.stages[0].train.directory}",
                "give one directory",
            )  # fmt: skip
