"""`python -m tttlrm_jax.commands.export_model --run RUN --dest DIR`: weights without the rest.

A model directory (`config.json`, `params/`) is what `eval.py --checkpoint` reads and the package
ships; it holds no optimizer state.
"""

import dataclasses
import sys
from typing import Literal

from tttlrm_jax.command_line import EXIT_BAD_INPUT, parse_arguments
from tttlrm_jax.errors import InputError
from tttlrm_jax.models import split_model
from tttlrm_jax.training.checkpoint import export_model, load_model


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """What to export and where to."""

    run: str  # run directory of train.py
    dest: str  # model directory to write
    dtype: Literal["float32", "bfloat16"] = "float32"  # of the stored weights


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit code (0 done, 2 bad input)."""
    try:
        options = parse_arguments(
            ExportConfig, sys.argv[1:] if arguments is None else arguments, "export_model"
        )
        config, model = load_model(options.run)
        directory = export_model(config, split_model(model)[1], options.dest, options.dtype)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    size = sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())
    print(f"{directory}: {size / 2**20:.1f} MiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
