"""The records of a run on Weights & Biases, beside those on disk (extra `wandb`)."""

import importlib
import math
import uuid
from pathlib import Path
from typing import Any

import numpy as np

from tttlrm_jax.checkpoints.records import read_record, write_record
from tttlrm_jax.config import config_to_dict
from tttlrm_jax.config.run import AnyRun
from tttlrm_jax.core.errors import InputError, first_line

WANDB_FILE = "wandb.json"  # in a run's directory: by which name the service knows it
STEP = "step"  # records of a resumed run may go back, which the service's own count may not


class WandbLog:
    """A run of the project `config.wandb`; one that is resumed goes on as the same.

    With WANDB_MODE=offline it is written to `wandb/` in the run's directory, without an account.
    Raises InputError where the package is missing or the run cannot be begun.
    """

    def __init__(self, directory: Path, config: AnyRun):
        service = wandb_package(config.wandb)
        try:
            self._run = service.init(
                project=config.wandb, name=config.name, id=_run_id(directory, config.wandb),
                resume="allow", dir=str(directory), config=config_to_dict(config),
            )  # fmt: skip
        except service.errors.Error as error:
            raise InputError.of(
                "wandb", config.wandb, f"cannot be begun ({first_line(error)})",
                "run wandb login, set WANDB_MODE=offline, or leave it out",
            ) from error  # fmt: skip
        self._image = service.Image
        self._run.define_metric(STEP)
        self._run.define_metric("*", step_metric=STEP)

    def write(self, tagged: dict[str, float], step: int) -> None:
        """Scalars by their tag; those that are not finite are left out."""
        finite = {tag: value for tag, value in tagged.items() if math.isfinite(value)}
        self._run.log({STEP: step, **finite})

    def preview(self, tag: str, sheet: np.ndarray, step: int) -> None:
        """A picture uint8 [height, width, 3]."""
        self._run.log({STEP: step, tag: self._image(sheet)})

    def close(self) -> None:
        self._run.finish()


def wandb_package(project: str) -> Any:
    """The package, for a run of `project`. Raises InputError where it is not installed."""
    try:
        return importlib.import_module("wandb")
    except ImportError as error:
        raise InputError.of(
            "wandb", project, f"needs a package that is not here ({first_line(error)})",
            'pip install "tttlrm-jax[wandb]", or leave it out',
        ) from None  # fmt: skip


def _run_id(directory: Path, project: str) -> str:
    """The run's name in a project, drawn once; another project has another."""
    path = directory / WANDB_FILE
    known = read_record(path, lambda found: dict(found), "the run is to be a new one there") or {}
    if project not in known:
        known[project] = uuid.uuid4().hex[:12]
        write_record(path, known)
    return known[project]
