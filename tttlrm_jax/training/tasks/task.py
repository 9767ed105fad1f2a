"""What a kind of training run has to offer the trainer."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol, TypeVar

import numpy as np
from jaxtyping import Float

from tttlrm_jax.checkpoints.train_state import TrainState
from tttlrm_jax.training.watching.speed import Work

_Read = TypeVar("_Read")
Arrays = dict[str, np.ndarray]  # this process's share of a batch, by name


class ReadByAll(Protocol):
    """Calls `read` in every process, in the first one before the others; `name` says what it is."""

    def __call__(self, name: str, read: Callable[[], _Read]) -> _Read: ...


class Batches(Protocol):
    """The batches of a run in their order, which a checkpoint's state of them restores; without
    state, where the number of the step says all."""

    def take(self, step: int) -> Arrays:
        """The batch after `step` batches."""
        ...

    def get_state(self) -> dict[str, Any]:
        return {}

    def set_state(self, state: dict[str, Any]) -> None:
        del state


class Pictures(NamedTuple):
    """What a preview shows, each `[scene, picture, height, width, 3]` in [0, 1]."""

    inputs: Float[np.ndarray, "scene view height width 3"]
    targets: Float[np.ndarray, "scene target height width 3"]
    predictions: Float[np.ndarray, "scene target height width 3"]


class Task(Protocol):
    """One kind of run. The trainer calls `init` and `batches` once each, in this order, then
    `step` for every batch and `evaluate` at times. Configurations are of the task's own kind.
    """

    KINDS: ClassVar[tuple[str, ...]]  # of the models that it trains
    warnings: list[str]  # to be said once

    def init(self) -> TrainState:
        """The state before the first step, on its devices."""
        ...

    def batches(self, read: ReadByAll) -> Batches:
        """Opens the data of training and evaluation. Raises InputError where it cannot be used."""
        ...

    def write_records(self, directory: Path) -> None:
        """Notes beside the configuration by what a resumed run is known to be the same, if that
        does not follow from it."""

    def step(
        self, state: TrainState, arrays: Arrays, step: int
    ) -> tuple[TrainState, dict[str, Any], Work]:
        """The state after the batch which comes after `step` batches, metrics by name, and what it
        takes to compute them."""
        ...

    def evaluate(self, params: Any) -> tuple[dict[str, float], Pictures]:
        """Scores on held-out data by name, and what to show of it."""
        ...

    @staticmethod
    def described(config: Any) -> str:
        """What is trained on what, in a few words."""
        ...

    @staticmethod
    def check_mesh(config: Any) -> None:
        """Raises InputError, before any stage of a curriculum is trained, where the run could not
        have its mesh."""
        ...

    @staticmethod
    def check_data(config: Any) -> None:
        """Raises InputError, likewise, where the run's data cannot be used."""

    @staticmethod
    def harmless_changes(
        config: Any, directory: Path, changed: set[str]
    ) -> tuple[set[str], list[str]]:
        """Those of the changed settings that leave the run in `directory` the same, and what there
        is to say of its data. Raises ConfigError where the data are others than its own."""
        return set(), []


def span(counts: Sequence[int]) -> str:
    """The range of some numbers, `2-4`, or the one there is."""
    low, high = min(counts), max(counts)
    return str(low) if low == high else f"{low}-{high}"
