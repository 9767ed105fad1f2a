"""The command line of `train.py`."""

import importlib.util
import sys
from pathlib import Path

import tyro

from tttlrm_jax.config import RunConfig
from tttlrm_jax.errors import ConfigError, InputError
from tttlrm_jax.training.loop import train

USAGE = "usage: python train.py configs/NAME.py [--field.sub value ...]"
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130


def main(arguments: list[str]) -> int:
    """Runs the command; returns its exit code (0 done or saved, 2 bad input)."""
    try:
        config = parse(arguments)
        result = train(config)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        print("interrupted; the same command resumes from the newest checkpoint", file=sys.stderr)
        return EXIT_INTERRUPTED
    score = "" if result.eval_psnr is None else f", held-out PSNR {result.eval_psnr:.2f} dB"
    state = "finished" if result.finished else "saved"
    print(f"{state} {result.directory} at step {result.step}{score}")
    return 0


def parse(arguments: list[str]) -> RunConfig:
    """The configuration of a file with command-line overrides.

    Raises ConfigError for a missing file or one without `CONFIG`; unknown fields end the
    program with exit code 2 and a message that names near matches.
    """
    if not arguments or arguments[0].startswith("-"):
        if arguments[:1] in (["-h"], ["--help"]):
            print(USAGE)
            arguments = ["", *arguments]
            return tyro.cli(RunConfig, args=arguments[1:], prog="train.py configs/NAME.py")
        raise ConfigError(f"no configuration file is given; {USAGE}")
    config = load_config_file(Path(arguments[0]))
    prog = f"train.py {arguments[0]}"
    return tyro.cli(RunConfig, default=config, args=arguments[1:], prog=prog)


def load_config_file(path: Path) -> RunConfig:
    """Runs a configuration file and returns its `CONFIG`."""
    if not path.is_file():
        raise ConfigError(f"configuration file {path} does not exist; see the folder configs/")
    spec = importlib.util.spec_from_file_location("run_config", path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"configuration file {path} is not a Python file; name a .py file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = getattr(module, "CONFIG", None)
    if not isinstance(config, RunConfig):
        raise ConfigError(f"configuration file {path} defines no CONFIG of type RunConfig; add one")
    return config
