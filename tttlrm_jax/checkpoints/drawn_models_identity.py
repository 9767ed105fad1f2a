"""By what a run knows the files of models that its scenes show: content, not path."""

from pathlib import Path

from tttlrm_jax.checkpoints.records import read_record, write_record
from tttlrm_jax.config import DataConfig
from tttlrm_jax.procedural.model_files import ModelFiles

DRAWN_MODELS_FILE = "drawn_models.json"  # in a run's directory


def draws_models(data: DataConfig) -> bool:
    """Whether scenes show models of files."""
    return data.source == "synthetic" and data.synthetic.generator == "models"


def record_drawn_models(directory: Path, data: DataConfig) -> None:
    """Writes the identities of a run's files of models beside its configuration, if it has any.

    Raises InputError where it cannot be written or a file cannot be read.
    """
    if draws_models(data):
        write_record(directory / DRAWN_MODELS_FILE, {"identities": _identities(data)})


def changed_drawn_models(directory: Path, data: DataConfig) -> list[str] | None:
    """Which of `data.synthetic.models` hold other models than when the run in `directory` was
    started.

    None where the run kept no record. Raises InputError where they, or it, cannot be read.
    """
    before = read_record(
        directory / DRAWN_MODELS_FILE, lambda found: [str(each) for each in found["identities"]],
        "the models are the run's own",
    )  # fmt: skip
    if before is None:
        return None
    now, paths = _identities(data), data.synthetic.models
    if len(before) != len(now):
        return [f"{len(now)} files of models (were {len(before)})"]
    pairs = zip(paths, before, now, strict=True)
    return [f"{path} holds other models" for path, was, is_now in pairs if was != is_now]


def _identities(data: DataConfig) -> list[str]:
    return [ModelFiles(path).identity() for path in data.synthetic.models]
