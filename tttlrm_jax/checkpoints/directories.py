"""Where the parts of runs and models lie, and the configuration beside them.

A run directory holds `config.json` and `checkpoints/<step>/` with three parts: `params`, `train`
(optimizer state and counters) and `data` (state of the data iterator), and a fourth where the run
averages its weights, `ema`: that is what loading the run gives. A model directory holds
`config.json` and `params/`: what `export_model` writes and the package ships.
"""

import json
from pathlib import Path
from typing import Any

from tttlrm_jax.config import RunConfig, config_from_dict, config_to_dict
from tttlrm_jax.config.ttt3r import is_ttt3r
from tttlrm_jax.core.errors import InputError

CONFIG_FILE = "config.json"
CHECKPOINTS = "checkpoints"
PARAMS = "params"
EMA = "ema"
# How a run is computed on its machine: of no concern to those who use its weights.
HOST_CHOICES: dict[str, tuple[str, ...] | None] = {
    "raster": ("backend",),
    "data": ("cache_directory", "render_workers", "num_threads", "prefetch", "changed_scenes"),
    "train": ("directory", "init_from", "init_moments"),
    "mesh": None,  # all of it
    "profile": None,
    "wandb": None,
    "compile_cache": None,
}


def write_config(directory: Path, config: Any) -> None:
    """Writes a configuration as `config.json`, atomically."""
    write_values(directory, config_to_dict(config))


def write_values(directory: Path, values: dict[str, Any]) -> None:
    draft = directory / (CONFIG_FILE + ".tmp")
    draft.write_text(json.dumps(values, indent=2) + "\n")
    draft.replace(directory / CONFIG_FILE)


def read_config(directory: Path) -> RunConfig:
    """Reads the `config.json` of a run or model directory; InputError if it is not one.

    What a machine chooses (`HOST_CHOICES`) is taken from runs only: older model directories hold
    such choices too.
    """
    values = read_config_values(directory)
    if (directory / PARAMS).is_dir():
        values = without_host_choices(values)
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
            "give a run directory of train.py, or a model directory; files of published weights "
            "become one by python -m tttlrm_jax.convert FILE DIR",
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


def without_host_choices(values: dict[str, Any]) -> dict[str, Any]:
    """The values of a `config.json` without those that a machine chooses: readers take defaults."""
    values = dict(values)
    for part, fields in HOST_CHOICES.items():
        if fields is None:
            values.pop(part, None)
        elif isinstance(values.get(part), dict):
            values[part] = {name: v for name, v in values[part].items() if name not in fields}
    return values


def without_places(values: dict[str, Any]) -> dict[str, Any]:
    """The values of a `config.json` with data sets by name in place of where they lay, and without
    the file of the perceptual network."""
    values = dict(values)
    for part, change in (("data", _named), ("loss", _without_file)):
        if isinstance(values.get(part), dict):
            values[part] = {name: change(name, value) for name, value in values[part].items()}
    return values


def _named(field: str, value: Any) -> Any:
    if field == "shard_directory":
        return Path(value).name
    return [Path(each).name for each in value] if field == "capture_directories" else value


def _without_file(field: str, value: Any) -> Any:
    return "auto" if field == "vgg19_weights" and value is not None else value


def has_checkpoint(directory: Path) -> bool:
    """Whether the run in `directory` has a complete checkpoint."""
    return newest_step(directory) is not None


def newest_step(directory: Path) -> int | None:
    """The step of the newest complete checkpoint of the run in `directory`."""
    steps = (
        int(entry.name)
        for entry in (directory / CHECKPOINTS).glob("*")
        if entry.name.isdigit() and (entry / PARAMS).is_dir()
    )
    return max(steps, default=None)


def params_path(path: Path) -> Path:
    if (path / PARAMS).is_dir():
        return path / PARAMS
    step = newest_step(path)
    if step is None:
        raise InputError.of(
            "checkpoint", path, "holds no complete checkpoint",
            "train it first, or give another directory",
        )  # fmt: skip
    newest = path / CHECKPOINTS / str(step)
    return newest / (EMA if (newest / EMA).is_dir() else PARAMS)
