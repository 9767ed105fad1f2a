"""By what a run knows its shards again when they lie elsewhere: content, not path."""

from pathlib import Path

from tttlrm_jax.checkpoints.records import read_record, write_record
from tttlrm_jax.config import DataConfig

SHARDS_FILE = "shards.json"  # in a run's directory


def record_shards(directory: Path, data: DataConfig) -> None:
    """Writes the fingerprint of a run's shards beside its configuration, if it has any.

    Raises InputError where it cannot be written.
    """
    if data.source != "shards":
        return
    write_record(directory / SHARDS_FILE, {"fingerprint": _fingerprint(data.shard_directory)})


def changed_shards(directory: Path, data: DataConfig) -> list[str] | None:
    """In words that `data.shard_directory` holds other shards than the run in `directory` was
    started with; empty where it does not.

    None where the run kept no fingerprint. Raises InputError where there are no shards, or the
    fingerprint cannot be read.
    """
    recorded = read_record(
        directory / SHARDS_FILE, lambda found: str(found["fingerprint"]),
        "the shards are the run's own",
    )  # fmt: skip
    if recorded is None:
        return None
    same = _fingerprint(data.shard_directory) == recorded
    return [] if same else [f"{data.shard_directory} holds other shards"]


def _fingerprint(directory: str) -> str:
    from tttlrm_jax.datasets.shards.reader import (
        fingerprint_of_shards,  # imports TFDS, which takes a second
    )

    return fingerprint_of_shards(directory)
