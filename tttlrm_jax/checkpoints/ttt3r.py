"""Model directories of TTT3R: `config.json` with a `model` of that kind, and Orbax `params/`."""

import dataclasses
from pathlib import Path
from typing import Any

from tttlrm_jax.checkpoints.runs import load_parameters, read_config_values, write_model
from tttlrm_jax.config import config_from_dict
from tttlrm_jax.config.ttt3r import TTT3RConfig, is_ttt3r
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.models import TTT3R, abstract_model, merge_model, split_model


@dataclasses.dataclass(frozen=True, kw_only=True)
class TTT3RModelFile:
    """What the `config.json` of a converted or exported model holds."""

    name: str
    model: TTT3RConfig
    image_size: tuple[int, int] | None = None  # height, width it was trained at, where known


def export_ttt3r(
    config: TTT3RConfig,
    params: Any,
    directory: Path | str,
    dtype: str = "float32",
    image_size: tuple[int, int] | None = None,
) -> Path:
    """Writes a model directory; an older one there is replaced once the new one is complete.

    `image_size` is height and width that the weights were trained at, where that is known.
    Raises InputError as `training.checkpoint.export_model` does.
    """
    described = TTT3RModelFile(name=Path(directory).name, model=config, image_size=image_size)
    return write_model(described, params, directory, dtype)


def trained_size(path: Path | str) -> tuple[int, int] | None:
    """Height and width of the pictures that a run or a model directory was trained at.

    None where its `config.json` does not say, as that of converted weights. Raises InputError if
    there is none, or if it holds something else there.
    """
    values = read_config_values(Path(path))
    room, size = values.get("room"), values.get("image_size")
    if isinstance(room, dict):
        size = [room.get("height"), room.get("width")]
    if size is None:
        return None
    match size:
        case [int(height), int(width)] if height > 0 and width > 0:
            return height, width
    raise InputError.of(
        "checkpoint", path, f"says {size} as height and width of its pictures",
        "restore its config.json or give --size",
    )  # fmt: skip


def load_ttt3r(path: Path | str, **changes: Any) -> tuple[TTT3RConfig, TTT3R]:
    """Configuration and network of a model directory or a run (its newest checkpoint).

    `changes` replace fields that no parameter depends on, such as `half_rope`, `remat` or
    `compute_dtype`. Raises InputError if there is no such model, or if it is damaged.
    """
    values = read_config_values(Path(path))
    if not is_ttt3r(values):
        raise InputError.of(
            "checkpoint", path, "holds no TTT3R network",
            "give a directory written by python -m tttlrm_jax.convert",
        )  # fmt: skip
    config = config_from_dict(TTT3RConfig, values["model"], "model.")
    config = dataclasses.replace(config, **changes)
    graph, expected = split_model(abstract_model(config))
    return config, merge_model(graph, load_parameters(path, expected))
