"""By what a run knows its shards again when they lie elsewhere: content, not path."""

from pathlib import Path

from tttlrm_jax.checkpoints.records import read_record, write_record
from tttlrm_jax.config import DataConfig
from tttlrm_jax.core.errors import ConfigError

SHARDS_FILE = "shards.json"  # in a run's directory


def record_shards(directory: Path, data: DataConfig) -> None:
    """Writes the fingerprint of a run's shards beside its configuration, if it has any.

    Raises InputError where it cannot be written.
    """
    if data.source != "shards":
        return
    write_record(directory / SHARDS_FILE, {"fingerprint": _fingerprint(data.shard_directory)})


def are_the_same_shards(directory: Path, data: DataConfig) -> bool:
    """Whether `data.shard_directory` holds what the run in `directory` was started with.

    False where the run kept no fingerprint. Raises ConfigError where it did, and the shards are
    others, InputError where there are none, or the fingerprint cannot be read.
    """
    recorded = read_record(
        directory / SHARDS_FILE, lambda found: str(found["fingerprint"]),
        "the shards are the run's own",
    )  # fmt: skip
    if recorded is None:
        return False
    if _fingerprint(data.shard_directory) != recorded:
        raise ConfigError.of(
            "data.shard_directory", data.shard_directory,
            f"holds other shards than the run in {directory} was started with",
            "name the directory where these lie now, or choose another name or train.directory",
        )  # fmt: skip
    return True


def _fingerprint(directory: str) -> str:
    from tttlrm_jax.datasets.shards.reader import (
        fingerprint_of_shards,  # imports TFDS, which takes a second
    )

    return fingerprint_of_shards(directory)
