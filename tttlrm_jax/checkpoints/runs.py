"""Checkpoints of a run while it trains: saved in the background, restored exactly."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from tttlrm_jax.checkpoints.arrays import (
    DamagedCheckpoint,
    damaged,
    read_on_one_device,
    reading,
    saved_shapes,
)
from tttlrm_jax.checkpoints.checks import check_same_shapes, fingerprints, seal, sealed
from tttlrm_jax.checkpoints.directories import CHECKPOINTS, EMA, PARAMS, newest_step
from tttlrm_jax.checkpoints.train_state import TrainState
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.parallel.processes import is_first_process, largest_of_processes, meet

DAMAGED = "damaged"  # directory of a run for checkpoints that could not be read


class RunCheckpoints:
    """Saves and restores a run's state; saving goes on in the background."""

    def __init__(self, run_directory: Path, keep: int):
        self._run_directory, self._keep = run_directory, keep
        self._open()

    def _open(self) -> None:
        self._manager = ocp.CheckpointManager(
            (self._run_directory / CHECKPOINTS).absolute(),
            options=ocp.CheckpointManagerOptions(
                max_to_keep=self._keep,
                create=True,
                # In the background, where it fails, saving waits five minutes to say so.
                async_options=ocp.AsyncOptions(create_directories_asynchronously=False),
            ),
            item_handlers=_handlers(),
        )

    def latest_step(self) -> int | None:
        """The newest complete checkpoint, None where there is none."""
        return self._manager.latest_step()

    def save(self, state: TrainState, data_state: dict[str, Any]) -> None:
        """Starts an asynchronous save of the state after `state.step` batches."""
        step = int(state.step)
        if step in self._manager.all_steps():
            return
        parts = _parts(state)
        record = sealed({"loader": data_state, "arrays": fingerprints(parts)})
        saves = {name: ocp.args.StandardSave(part) for name, part in parts.items()}
        with self._writing():
            self._manager.save(
                step, args=ocp.args.Composite(data=ocp.args.JsonSave(record), **saves)
            )

    def restore(self, step: int, like: TrainState) -> tuple[TrainState, dict[str, Any]]:
        """The state saved at `step`; `like` gives structure, shapes and placement.

        Raises InputError if the checkpoint holds another model, DamagedCheckpoint if it is
        damaged: what is read must have the fingerprints that were saved with it.
        """
        directory: Any = self._manager.directory / str(step)  # its type is Orbax's own
        with _alike(directory):
            check_same_shapes(saved_shapes(directory / PARAMS), like.params)
            restored = _read(directory, like)
            data_state = _loader_state(restored["data"], directory)
        saved = restored["data"].get("arrays")
        parts = {name: restored[name] for name in _parts(like)}
        if saved is not None and fingerprints(parts) != saved:  # of all processes' arrays
            raise damaged(directory, "its arrays are not those that were saved")
        return TrainState(params=parts[PARAMS], ema=parts.get(EMA), **parts["train"]), data_state

    def restore_newest(
        self, like: TrainState
    ) -> tuple[TrainState, dict[str, Any] | None, list[str]]:
        """`restore` of the newest checkpoint that is whole, and what there is to say about it.

        Damaged ones are moved to `damaged/`. Without any checkpoint `like` comes back, without
        state of the loader. Raises DamagedCheckpoint if there are only damaged ones.
        """
        said: list[str] = []
        while (step := self.latest_step()) is not None:
            try:
                state, data_state = self.restore(step, like)
            except DamagedCheckpoint as error:
                said.append(f"WARNING: {error}")
                self._set_aside(step)
                if self.latest_step() is None:
                    raise DamagedCheckpoint(
                        f"{error} (there is none before it; it lies in "
                        f"{self._run_directory / DAMAGED})"
                    ) from error
                continue
            return state, data_state, [*said, f"resumed {self._run_directory} at step {step}"]
        return like, None, said

    def _set_aside(self, step: int) -> None:
        """Moves a checkpoint out of sight of the manager, which is opened anew."""
        self._manager.close()
        meet(f"damaged {step}")
        if is_first_process():
            target = self._run_directory / DAMAGED / str(step)
            target.parent.mkdir(exist_ok=True)
            shutil.rmtree(target, ignore_errors=True)
            (self._run_directory / CHECKPOINTS / str(step)).rename(target)
        meet(f"set aside {step}")
        self._open()

    def wait(self) -> None:
        """Blocks until the running save is complete on disk."""
        with self._writing():
            self._manager.wait_until_finished()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Turns what Orbax raises where it cannot write into one sentence.

        It comes from background threads and TensorStore, without a type of its own.
        """
        try:
            yield
        except Exception as error:
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise InputError.of(
                "train.directory", self._run_directory, f"takes no checkpoint ({reason})",
                "free space or make it writable; the same command resumes from the newest "
                "complete checkpoint",
            ) from error  # fmt: skip

    def close(self) -> None:
        self._manager.close()


def _handlers() -> dict[str, Any]:
    return {
        PARAMS: ocp.StandardCheckpointHandler(),
        "train": ocp.StandardCheckpointHandler(),
        EMA: ocp.StandardCheckpointHandler(),
        "data": ocp.JsonCheckpointHandler(),
    }


def _read(directory: Any, like: TrainState) -> Any:
    """What the checkpoint holds, read without the manager: after reading it waits for all
    processes, in vain if one of them has failed. `directory` is one of Orbax's own paths."""
    with reading(directory):
        handler = ocp.CompositeCheckpointHandler(**_handlers())
        reads = {
            name: ocp.args.StandardRestore(jax.tree.map(ocp.utils.to_shape_dtype_struct, part))
            for name, part in _parts(like).items()
        }
        return handler.restore(
            directory, args=ocp.args.Composite(data=ocp.args.JsonRestore(), **reads)
        )


@contextlib.contextmanager
def _alike(directory: Path) -> Iterator[None]:
    """Makes a checkpoint that any process cannot read damaged for all: each reads its own part,
    and all have to go on with the same one."""
    failure: DamagedCheckpoint | None = None
    try:
        yield
    except DamagedCheckpoint as error:
        failure = error
    if largest_of_processes(int(failure is not None)):
        raise failure or damaged(directory, "another process cannot read its part")


def _parts(state: TrainState) -> dict[str, Any]:
    """The arrays of a checkpoint by the name of their part."""
    parts = {PARAMS: state.params, "train": _train_part(state)}
    return parts if state.ema is None else parts | {EMA: state.ema}


def _train_part(state: TrainState) -> dict[str, Any]:
    return {name: getattr(state, name) for name in ("step", "opt_state", "num_skipped")}


def _loader_state(record: dict[str, Any], directory: Path) -> dict[str, Any]:
    """The loader's state of a record that is as it was sealed; older ones are the state alone."""
    if "seal" not in record:
        return record
    if seal({name: value for name, value in record.items() if name != "seal"}) != record["seal"]:
        raise damaged(directory, "its record of the data is not the one that was saved")
    return record["loader"]


def load_optimizer_state(path: Path | str, like: TrainState) -> Any:
    """The state of the optimizer in a run's newest checkpoint, of the structure that `like` has.

    Raises InputError where there is none or it is of another model.
    """
    step = newest_step(Path(path))
    if step is None:
        raise InputError.of(
            "train.init_moments", path, "holds no optimizer state",
            "name a run directory of train.py",
        )  # fmt: skip
    part = Path(path) / CHECKPOINTS / str(step) / "train"
    return read_on_one_device(part, _train_part(like))["opt_state"]
