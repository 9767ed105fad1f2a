"""Model directories, and the parameters of runs: written once, read by everything else."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
from flax import nnx

from tttlrm_jax.checkpoints.arrays import read_on_one_device, saved_shapes, write_arrays
from tttlrm_jax.checkpoints.checks import check_same_shapes
from tttlrm_jax.checkpoints.directories import (
    CONFIG_FILE,
    PARAMS,
    params_path,
    read_config,
    read_config_values,
    without_host_choices,
    without_places,
    write_values,
)
from tttlrm_jax.checkpoints.provenance import provenance
from tttlrm_jax.config import ModelConfig, RunConfig, config_from_dict, config_to_dict
from tttlrm_jax.config.ttt3r import TTT3RConfig, is_ttt3r
from tttlrm_jax.core.arrays import on_device
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.files.output_directory import atomic_directory
from tttlrm_jax.models import TTT3R, abstract_model, merge_model, split_model

DTYPES = ("float32", "bfloat16")


def load_model(path: Path | str) -> tuple[RunConfig, nnx.Module]:
    """Model and configuration from a run directory (newest checkpoint) or a model directory.

    Parameters come out in the dtype the configuration names. Raises InputError if there is no
    checkpoint, if it does not fit the configuration beside it, or if it is damaged.
    """
    config = read_config(Path(path))
    return config, _with_parameters(path, config.model)


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
    return config, _with_parameters(path, config)


def _with_parameters(path: Path | str, config: ModelConfig | TTT3RConfig) -> Any:
    graph, expected = split_model(abstract_model(config))
    return merge_model(graph, load_parameters(path, expected))


def load_parameters(path: Path | str, expected: Any) -> Any:
    """Parameters of a run's newest checkpoint or of a model directory, like `expected`.

    Shapes and dtypes follow `expected` (arrays or their descriptions); raises InputError as
    `load_model` does.
    """
    part = params_path(Path(path))
    check_same_shapes(saved_shapes(part), expected)
    return read_on_one_device(part, expected)


def saved_arrays(path: Path | str) -> dict[str, Any]:
    """Shape and dtype of the parameters that `load_parameters` reads, nested as they are.

    Raises InputError as `load_model` does.
    """
    described = saved_shapes(params_path(Path(path)))
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), described)


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


def export_model(
    config: RunConfig, params: Any, directory: Path | str, dtype: str = "float32"
) -> Path:
    """Writes a model directory; an older one there is replaced once the new one is complete.

    What the machine chose that trained it is left out of the configuration, what the weights have
    seen is written into it. Raises InputError for an unknown dtype, or if `directory` holds
    anything but a model or cannot be written.
    """
    described = dataclasses.replace(config, provenance=provenance(config))
    return _write_model(config_to_dict(described), params, directory, dtype)


def export_ttt3r(
    config: TTT3RConfig,
    params: Any,
    directory: Path | str,
    dtype: str = "float32",
    image_size: tuple[int, int] | None = None,
    provenance: str = "",
) -> Path:
    """Writes a model directory; an older one there is replaced once the new one is complete.

    `image_size` is height and width that the weights were trained at, `provenance` what they have
    seen, where that is known. Raises InputError as `export_model` does.
    """
    described = {
        "name": Path(directory).name,
        "model": config_to_dict(config),
        "image_size": image_size,
        "provenance": provenance,
    }
    return _write_model(described, params, directory, dtype)


def _write_model(values: dict[str, Any], params: Any, directory: Path | str, dtype: str) -> Path:
    """A model directory with the values of its configuration, of any kind of model."""
    if dtype not in DTYPES:
        raise InputError.of("dtype", dtype, "cannot be exported", f"use one of {DTYPES}")
    directory = Path(directory).absolute()
    narrow = jax.tree.map(lambda p: on_device(p).astype(dtype), params)
    with atomic_directory(directory, (CONFIG_FILE, PARAMS), "directory") as draft:
        write_arrays(draft / PARAMS, narrow)
        write_values(draft, without_places(without_host_choices(values)))
    return directory
