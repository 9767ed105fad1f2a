"""Directory of a run: whether it can be written, and what a resumed run may change."""

import dataclasses
import os
from pathlib import Path
from typing import Any

from flax.traverse_util import flatten_dict

from tttlrm_jax.checkpoints.directories import (
    CHECKPOINTS,
    CONFIG_FILE,
    has_checkpoint,
    read_config_values,
    write_config,
)
from tttlrm_jax.config import MeshConfig, config_from_dict, config_to_dict
from tttlrm_jax.config.run import AnyRun
from tttlrm_jax.config.training import WatchedRun
from tttlrm_jax.core.errors import ConfigError, InputError
from tttlrm_jax.training.tasks import task_of

# settings that a resumed run may change; the length changes the learning rates still to come
RESUMABLE = {
    "train.num_steps", "train.log_every", "train.eval_every", "train.eval_scenes",
    "train.checkpoint_every", "train.keep_checkpoints", "train.directory",
    "data.cache_directory", "data.render_workers", "data.num_threads", "data.prefetch",
    "data.changed_scenes", "train.max_nonfinite", "train.deferred_rendering",
    "train.rendering_bands", "provenance",
    *(f"mesh.{field.name}" for field in dataclasses.fields(MeshConfig)),
}  # fmt: skip
# how a call is watched, of which there is nothing to say
UNSAID = {field.name for field in dataclasses.fields(WatchedRun)}


def run_directory(config: AnyRun) -> Path:
    """Where a run lies."""
    return Path(config.train.directory) / config.name


def check_writable(directory: Path) -> None:
    """Raises InputError unless `directory` is one we can write to, or can be made."""
    wanted = (directory / CHECKPOINTS, directory, *directory.absolute().parents)
    nearest = next(path for path in wanted if path.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise _unwritable(directory, f"{nearest} is no writable directory")


def write_run_directory(directory: Path, config: AnyRun) -> None:
    """Makes a run's directory and writes its configuration; InputError if that fails."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        write_config(directory, config)
    except OSError as error:
        raise _unwritable(directory, error.strerror) from error


def _unwritable(directory: Path, reason: str | None) -> InputError:
    limit = f"cannot be written ({reason})"
    return InputError.of("train.directory", directory, limit, "choose another directory")


def changes_since(directory: Path, config: AnyRun) -> list[str]:
    """Settings that differ from those the directory's run was started with, in words, and data
    that do where the run is to go on with them.

    Raises ConfigError if one of them is not `RESUMABLE`, nor one that the task finds harmless, such
    as the new place of the same shards, and for other data. A run that saved nothing binds to none.
    """
    if not ((directory / CONFIG_FILE).exists() and has_checkpoint(directory)):
        return []
    changed = _differences(_config_of(directory, config), config)
    harmless, said = task_of(config).harmless_changes(config, directory, set(changed))
    resumable = RESUMABLE | UNSAID | harmless
    refused = {name: both for name, both in changed.items() if name not in resumable}
    if refused:
        listed = ", ".join(f"{name}={value} (was {old})" for name, (old, value) in refused.items())
        raise _holds_another(directory, f"run with other settings: {listed}")
    return said + [
        f"{name} was {'not recorded' if old == '' else old}, is now {value}"
        for name, (old, value) in changed.items()
        if name not in UNSAID
    ]


def _config_of(directory: Path, like: AnyRun) -> AnyRun:
    """The configuration of the run in `directory`; fields it does not know take their defaults.

    Raises ConfigError for a run of another kind than `like`.
    """
    values = read_config_values(directory)
    model = values.get("model")
    kind = model.get("kind") if isinstance(model, dict) else None
    if kind is not None and kind not in task_of(like).KINDS:
        raise _holds_another(directory, f"run of another kind: model.kind={kind}")
    return config_from_dict(type(like), values)


def _holds_another(directory: Path, what: str) -> ConfigError:
    return ConfigError(
        f"run directory {directory} holds a {what}; choose another name or train.directory"
    )


def _differences(earlier: AnyRun, now: AnyRun) -> dict[str, tuple[Any, Any]]:
    """(earlier value, value now) of every setting that differs, by its dotted name."""
    before, after = (flatten_dict(config_to_dict(run), sep=".") for run in (earlier, now))
    both = {name: (before.get(name), value) for name, value in after.items()}
    return {name: (old, value) for name, (old, value) in both.items() if old != value}
