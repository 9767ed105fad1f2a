"""`python -m tttlrm_jax.apps.export_model --run RUN --dest DIR`: weights without the rest.

A model directory (`config.json`, `params/`) is what `eval.py --checkpoint` reads and the package
ships; it holds no optimizer state.
"""

import dataclasses
import sys
from pathlib import Path
from typing import Literal

from tttlrm_jax.checkpoints.directories import read_config_values
from tttlrm_jax.checkpoints.models import (
    export_model,
    export_ttt3r,
    load_model,
    load_ttt3r,
    trained_size,
)
from tttlrm_jax.checkpoints.provenance import provenance_of
from tttlrm_jax.config.command_line import run_command
from tttlrm_jax.config.ttt3r import is_ttt3r
from tttlrm_jax.models import split_model


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """What to export and where to."""

    run: str  # run directory of train.py
    dest: str  # model directory to write
    dtype: Literal["float32", "bfloat16"] = "float32"  # of the stored weights


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit code (0 done, 2 bad input)."""
    return run_command(ExportConfig, export_run, "export_model", arguments)


def export_run(options: ExportConfig) -> Path:
    """Writes the weights of a run of either network; returns the model directory.

    Raises InputError as reading the run and writing the directory do.
    """
    seen = provenance_of(options.run)
    if is_ttt3r(read_config_values(Path(options.run))):
        config, network = load_ttt3r(options.run)
        params, size = split_model(network)[1], trained_size(options.run)
        return report_size(export_ttt3r(config, params, options.dest, options.dtype, size, seen))
    config, model = load_model(options.run)
    config = dataclasses.replace(config, provenance=seen)
    return report_size(export_model(config, split_model(model)[1], options.dest, options.dtype))


def report_size(directory: Path) -> Path:
    """Prints how large a model directory is."""
    size = sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())
    print(f"{directory}: {size / 2**20:.1f} MiB")
    return directory


if __name__ == "__main__":
    sys.exit(main())
