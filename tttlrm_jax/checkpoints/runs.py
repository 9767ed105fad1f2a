"""Checkpoints of a run, and models to load.

A run directory holds `config.json` and `checkpoints/<step>/` with three parts: `params`, `train`
(optimizer state and counters) and `data` (state of the data iterator), and a fourth where the run
averages its weights, `ema`: that is what loading the run gives. A model directory holds
`config.json` and `params/`: what `export_model` writes and the package ships. Both are Orbax.
"""

import contextlib
import dataclasses
import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from flax import nnx

from tttlrm_jax.checkpoints.checks import check_same_shapes, fingerprints, seal, sealed
from tttlrm_jax.checkpoints.train_state import TrainState
from tttlrm_jax.config import RunConfig, config_from_dict, config_to_dict
from tttlrm_jax.config.ttt3r import is_ttt3r
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.models import abstract_model, merge_model, split_model
from tttlrm_jax.parallel.processes import is_first_process, largest_of_processes, meet

CONFIG_FILE = "config.json"
CHECKPOINTS = "checkpoints"
PARAMS = "params"
EMA = "ema"
DAMAGED = "damaged"  # directory of a run for checkpoints that could not be read
DTYPES = ("float32", "bfloat16")


class DamagedCheckpoint(InputError):
    """A checkpoint cannot be read, or does not hold what was saved."""


class RunCheckpoints:
    """Saves and restores a run's state; saving goes on in the background."""

    def __init__(self, run_directory: Path, keep: int):
        self._run_directory, self._keep = run_directory, keep
        self._open()

    def _open(self) -> None:
        run_directory, keep = self._run_directory, self._keep
        self._manager = ocp.CheckpointManager(
            (run_directory / CHECKPOINTS).absolute(),
            options=ocp.CheckpointManagerOptions(
                max_to_keep=keep,
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
            check_same_shapes(_saved_shapes(directory / PARAMS), like.params)
            restored = _read(directory, like)
            data_state = _loader_state(restored["data"], directory)
        saved = restored["data"].get("arrays")
        parts = {name: restored[name] for name in _parts(like)}
        if saved is not None and fingerprints(parts) != saved:  # of all processes' arrays
            raise _damaged(directory, "its arrays are not those that were saved")
        average = parts.get(EMA)
        return TrainState(params=parts[PARAMS], ema=average, **parts["train"]), data_state

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
    with _reading(directory):
        handler = ocp.CompositeCheckpointHandler(**_handlers())
        reads = {
            name: ocp.args.StandardRestore(_abstract(part)) for name, part in _parts(like).items()
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
        raise failure or _damaged(directory, "another process cannot read its part")


def _parts(state: TrainState) -> dict[str, Any]:
    """The arrays of a checkpoint by the name of their part."""
    parts = {PARAMS: state.params, "train": _train_part(state)}
    return parts if state.ema is None else parts | {EMA: state.ema}


def _train_part(state: TrainState) -> dict[str, Any]:
    return {
        "step": state.step,
        "opt_state": state.opt_state,
        "num_skipped": state.num_skipped,
    }


def _loader_state(record: dict[str, Any], directory: Path) -> dict[str, Any]:
    """The loader's state of a record that is as it was sealed; older ones are the state alone."""
    if "seal" not in record:
        return record
    if seal({name: value for name, value in record.items() if name != "seal"}) != record["seal"]:
        raise _damaged(directory, "its record of the data is not the one that was saved")
    return record["loader"]


def _damaged(path: Path, reason: str) -> DamagedCheckpoint:
    return DamagedCheckpoint.of(
        "checkpoint", path, f"is damaged: {reason}",
        "remove it to fall back to the one before, or use another",
    )  # type: ignore[return-value]  # fmt: skip


def _abstract(tree: Any) -> Any:
    return jax.tree.map(ocp.utils.to_shape_dtype_struct, tree)


def write_config(directory: Path, config: Any) -> None:
    """Writes a configuration as `config.json`, atomically."""
    draft = directory / (CONFIG_FILE + ".tmp")
    draft.write_text(json.dumps(config_to_dict(config), indent=2) + "\n")
    draft.replace(directory / CONFIG_FILE)


def read_config(directory: Path) -> RunConfig:
    """Reads the `config.json` of a run or model directory; InputError if it is not one."""
    values = read_config_values(directory)
    if is_ttt3r(values):
        raise InputError.of(
            "checkpoint", directory, "holds a TTT3R network", "use eval.py --model ttt3r with it"
        )
    return config_from_dict(RunConfig, values)


def read_config_values(directory: Path) -> dict[str, Any]:
    """What a `config.json` holds; InputError if there is none or it is no JSON object."""
    path = directory / CONFIG_FILE
    try:
        values = json.loads(path.read_text())
    except OSError as error:
        raise InputError.of(
            "checkpoint", directory, f"cannot be read ({error.strerror}: {path.name})",
            "give a run directory of train.py or a directory written by export_model",
        ) from error  # fmt: skip
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError.of(
            "checkpoint", directory, f"has a {path.name} that is not JSON ({error})",
            "restore the file",
        ) from error  # fmt: skip
    if not isinstance(values, dict):
        raise InputError.of(
            "checkpoint", directory, f"has a {path.name} that is no JSON object", "restore the file"
        )
    return values


def load_model(path: Path | str) -> tuple[RunConfig, nnx.Module]:
    """Model and configuration from a run directory (newest checkpoint) or a model directory.

    Parameters come out in the dtype the configuration names. Raises InputError if there is no
    checkpoint, if it does not fit the configuration beside it, or if it is damaged.
    """
    config = read_config(Path(path))
    graph, expected = split_model(abstract_model(config.model))
    return config, merge_model(graph, load_parameters(path, expected))


def load_parameters(path: Path | str, expected: Any) -> Any:
    """Parameters of a run's newest checkpoint or of a model directory, like `expected`.

    Shapes and dtypes follow `expected` (arrays or their descriptions); raises InputError as
    `load_model` does.
    """
    params_path = _params_path(Path(path))
    logging.getLogger("absl").setLevel(logging.ERROR)
    check_same_shapes(_saved_shapes(params_path), expected)
    return _on_one_device(params_path, expected)


def _on_one_device(path: Path, expected: Any) -> Any:
    """A part of a checkpoint, like `expected`."""
    target = jax.tree.map(
        lambda e: jax.ShapeDtypeStruct(e.shape, e.dtype, sharding=_one_device()), expected
    )
    with _reading(path), ocp.StandardCheckpointer() as checkpointer:
        return checkpointer.restore(path.absolute(), target)


def saved_arrays(path: Path | str) -> dict[str, Any]:
    """Shape and dtype of the parameters that `load_parameters` reads, nested as they are.

    Raises InputError as `load_model` does.
    """
    logging.getLogger("absl").setLevel(logging.ERROR)
    described = _saved_shapes(_params_path(Path(path)))
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), described)


def _saved_shapes(params_path: Path) -> Any:
    """The tree of a saved item, with metadata of shape and dtype for leaves."""
    with _reading(params_path), ocp.StandardCheckpointer() as checkpointer:
        metadata = checkpointer.metadata(params_path.absolute())
        saved = metadata.item_metadata if hasattr(metadata, "item_metadata") else metadata
        tree = saved.tree if hasattr(saved, "tree") else saved
    if not jax.tree.leaves(tree):
        raise _damaged(params_path, "it lists no arrays")
    return tree


def _one_device():
    return jax.sharding.SingleDeviceSharding(jax.local_devices()[0])


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turns what Orbax raises for a damaged checkpoint into one sentence.

    TensorStore's errors have no type of their own, so every exception of the reader counts.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise DamagedCheckpoint.of(
            "checkpoint", path, f"cannot be read ({reason})",
            "remove it to fall back to the one before, or use another",
        ) from error  # fmt: skip


def has_checkpoint(directory: Path) -> bool:
    """Whether the run in `directory` has a complete checkpoint."""
    return bool(_complete_steps(directory))


def newest_step(directory: Path) -> int | None:
    """The step of the newest complete checkpoint of the run in `directory`."""
    return max(_complete_steps(directory), default=None)


def _complete_steps(directory: Path) -> list[int]:
    return [
        int(entry.name)
        for entry in (directory / CHECKPOINTS).glob("*")
        if entry.name.isdigit() and (entry / PARAMS).is_dir()
    ]


def _params_path(path: Path) -> Path:
    if (path / PARAMS).is_dir():
        return path / PARAMS
    steps = _complete_steps(path)
    if not steps:
        raise InputError.of(
            "checkpoint", path, "holds no complete checkpoint",
            "train it first, or give another directory",
        )  # fmt: skip
    newest = path / CHECKPOINTS / str(max(steps))
    return newest / (EMA if (newest / EMA).is_dir() else PARAMS)


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
    return _on_one_device(part, _train_part(like))["opt_state"]


def export_model(
    config: RunConfig, params: Any, directory: Path | str, dtype: str = "float32"
) -> Path:
    """Writes a model directory; an older one there is replaced once the new one is complete.

    Directories of the machine that trained it are left out of the configuration. Raises
    InputError for an unknown dtype, or if `directory` holds anything but a model.
    """
    return write_model(_without_directories(config), params, directory, dtype)


def write_model(config: Any, params: Any, directory: Path | str, dtype: str = "float32") -> Path:
    """`export_model` with the configuration as it is, of any kind of model."""
    if dtype not in DTYPES:
        raise InputError.of("dtype", dtype, "cannot be exported", f"use one of {DTYPES}")
    directory = Path(directory).absolute()
    if directory.exists() and {e.name for e in directory.iterdir()} - {CONFIG_FILE, PARAMS}:
        raise InputError.of(
            "directory", directory, "holds other files than a model's", "choose a new directory"
        )
    draft = directory.with_name(directory.name + ".tmp")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    with ocp.StandardCheckpointer() as checkpointer:
        narrow = jax.tree.map(lambda p: jnp.asarray(np.asarray(p)).astype(dtype), params)
        checkpointer.save(draft / PARAMS, narrow)
    (draft / PARAMS / "commit_success.txt").unlink(missing_ok=True)  # names this machine's path
    write_config(draft, config)
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(directory)
    draft.rename(directory)
    return directory


def _without_directories(config: RunConfig) -> RunConfig:
    default = RunConfig(name=config.name)
    return dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, cache_directory=default.data.cache_directory),
        train=dataclasses.replace(config.train, directory=default.train.directory, init_from=None),
    )
