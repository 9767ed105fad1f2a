"""Whether runs fit the devices that are there, and which settings would make them."""

import collections
import dataclasses
import itertools
from collections.abc import Iterator, Sequence

import jax

from tttlrm_jax.checkpoints.directories import has_checkpoint
from tttlrm_jax.config import RunConfig
from tttlrm_jax.config.run import AnyRun
from tttlrm_jax.core.errors import ConfigError, InputError
from tttlrm_jax.parallel.mesh import mesh_sizes
from tttlrm_jax.training.run_directory import run_directory
from tttlrm_jax.training.tasks import task_of


class DoesNotFit(ConfigError):
    """Runs whose meshes the devices cannot form; `overrides` are arguments with which they can."""

    def __init__(self, message: str, overrides: list[str]):
        super().__init__(message)
        self.overrides = overrides


def check_fits(stages: Sequence[AnyRun], first: int = 0) -> None:
    """Raises DoesNotFit where the mesh of a stage, from number `first` on, cannot be had.

    Of a run that is alone `stages` holds one. Its overrides let every device take one scene at a
    time; what memory that needs is not known here.
    """
    for stage in stages[first:]:
        try:
            task_of(stage).check_mesh(stage)
        except InputError as error:
            where = f"stage {stage.name}: " if len(stages) > 1 else ""
            raise DoesNotFit(f"{where}{error}", _overrides(stages, first)) from None


def _overrides(stages: Sequence[AnyRun], first: int) -> list[str]:
    """Arguments that make all stages fit; none where some stage does not in any way tried."""
    fitting = [_fitting(stage) for stage in stages[first:]]
    found = [stage for stage in fitting if stage is not None]
    if len(found) < len(fitting):
        return []
    before = [_values(stage) for stage in stages[first:]]
    after = [_values(stage) for stage in found]
    arguments = []
    for field in before[0]:
        old, new = [each[field] for each in before], [each[field] for each in after]
        option = field.replace("_", "-")
        common = collections.Counter(new).most_common(1)[0][0]
        if old != new and first == 0:  # finished stages may not change
            arguments += [f"--{option}", str(common)]
            old = [common] * len(new)
        for number, (was, value) in enumerate(zip(old, new, strict=True), start=first + 1):
            arguments += [f"--{number}.{option}", str(value)] if was != value else []
    return arguments


def _values(stage: AnyRun) -> dict[str, int]:
    """The settings of a run that depend on devices, by field."""
    mesh = stage.mesh
    values = {"mesh.data": mesh.data, "mesh.seq": mesh.seq, "mesh.fsdp": mesh.fsdp}
    if isinstance(stage, RunConfig):
        values["train.micro_batches"] = stage.train.micro_batches
    return values


def _fitting(stage: AnyRun) -> AnyRun | None:
    """The stage with as much of its mesh as the devices allow; None where nothing fits."""
    for data, seq, fsdp in _meshes(stage, jax.device_count()):
        mesh = dataclasses.replace(stage.mesh, data=data, seq=seq, fsdp=fsdp)
        try:
            fitted = _one_scene_at_a_time(dataclasses.replace(stage, mesh=mesh))
            task_of(fitted).check_mesh(fitted)
        except InputError:
            continue
        return fitted
    return None


def _meshes(stage: AnyRun, devices: int) -> Iterator[tuple[int, int, int]]:
    """Sizes to try, those nearest to the stage's own first."""
    own = stage.mesh
    divisors = [size for size in range(devices, 0, -1) if devices % size == 0]

    def up_to(size: int) -> list[int]:
        return [each for each in divisors if size == -1 or each <= size]

    for seq, fsdp in itertools.product(up_to(own.seq), up_to(own.fsdp)):
        for data in dict.fromkeys((own.data, -1, 1)):
            yield data, seq, fsdp


def _one_scene_at_a_time(stage: AnyRun) -> AnyRun:
    """The stage in as many parts of a batch as its devices allow; one that has begun as it is."""
    if not isinstance(stage, RunConfig) or has_checkpoint(run_directory(stage)):
        return stage
    data, _, fsdp = mesh_sizes(stage.mesh, jax.device_count())
    parts = stage.train.batch_size // (data * fsdp)
    train = dataclasses.replace(stage.train, micro_batches=max(parts, 1))
    return dataclasses.replace(stage, train=train)
