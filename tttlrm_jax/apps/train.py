"""`train.py`: a configuration file, with overrides, to a trained model."""

import dataclasses
import inspect
import os
import re
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_type_hints

import jax

from tttlrm_jax.apps.rule_arguments import parse_with_rule
from tttlrm_jax.config import RunConfig
from tttlrm_jax.config.command_line import (
    EXIT_BAD_INPUT,
    EXIT_INTERRUPTED,
    EXIT_LOST_PROCESS,
    parse_arguments,
    read_value,
    unfinished_exit,
)
from tttlrm_jax.config.run import AnyRun, CurriculumConfig
from tttlrm_jax.config.user_file import run_user_file
from tttlrm_jax.core.errors import ConfigError, InputError
from tttlrm_jax.core.program_cache import keep_programs
from tttlrm_jax.parallel.processes import init_distributed
from tttlrm_jax.training.curriculum import train_curriculum
from tttlrm_jax.training.device_fit import DoesNotFit
from tttlrm_jax.training.stopping import Stopped, StopRequest
from tttlrm_jax.training.trainer import RunResult, train

PROG = "train.py configs/NAME.py"
AnyConfig = AnyRun | CurriculumConfig
USAGE = f"usage: python {PROG} [--field.sub value ...]"


def main(arguments: list[str] | None = None, noted: Sequence[int] = ()) -> int:
    """Runs the command; returns its exit code. `noted` are signals from before the call.

    0 finished, or stopped by SIGTERM (a preemption notice), having saved what there was to save,
    unless the environment's `TTTLRM_UNFINISHED_EXIT` names another code for the latter, by which a
    scheduler can tell that there is more to do; 1 another process of the job is gone; 2 bad input;
    130 interrupted.
    """
    stop = StopRequest()
    try:
        unfinished = unfinished_exit(os.environ)
        with stop:
            result = _trained(sys.argv[1:] if arguments is None else arguments, noted, stop)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return _ended(EXIT_BAD_INPUT)
    except jax.errors.JaxRuntimeError as error:
        if jax.process_count() == 1:
            raise
        print(_lost_process(error), file=sys.stderr)
        return _ended(EXIT_LOST_PROCESS)
    except (Stopped, KeyboardInterrupt) as end:
        if isinstance(end, Stopped) and stop.signal != signal.SIGINT:
            print("stopped before the run began", file=sys.stderr)
            return _ended(unfinished_exit(os.environ))
        print("interrupted; the same command resumes from the newest checkpoint", file=sys.stderr)
        return _ended(EXIT_INTERRUPTED)
    score = "" if result.eval_psnr is None else f", held-out PSNR {result.eval_psnr:.2f} dB"
    state = "finished" if result.finished else "saved" if result.step else "stopped"
    print(f"{state} {result.directory} at step {result.step}{score}")
    if result.signal == signal.SIGINT:
        return EXIT_INTERRUPTED
    return 0 if result.finished else unfinished


def _trained(arguments: list[str], noted: Sequence[int], stop: StopRequest) -> RunResult:
    """Trains what the arguments say; raises Stopped where a signal has come before that."""
    with stop.at_once():
        if noted:
            raise Stopped
        config = parse(arguments)
        run = config.stages[0] if isinstance(config, CurriculumConfig) else config
        mesh = run.mesh
        init_distributed(
            mesh.coordinator, mesh.num_processes, mesh.process_id, timeout=mesh.timeout
        )
        if run.compile_cache:
            keep_programs()
    try:
        if isinstance(config, CurriculumConfig):
            return train_curriculum(config, stop=stop)
        return train(config, stop=stop)
    except DoesNotFit as error:
        raise ConfigError(_with_command(error, arguments)) from None


def _with_command(error: DoesNotFit, arguments: list[str]) -> str:
    """The error with the command line that fits the devices which are there."""
    if not error.overrides:
        return str(error)
    devices = jax.device_count()
    command = shlex.join(["python", "train.py", *arguments, *error.overrides])
    return (
        f"{error}; or, one scene at a time on the {devices} device{'s'[: devices > 1]} here, if "
        f"memory suffices: {command}"
    )


def _lost_process(error: Exception) -> str:
    reason = str(error).splitlines()[0][:200]
    return (
        f"error: process {jax.process_index()} of {jax.process_count()} cannot reach the others "
        f"({reason}); start all of them again, the run resumes from its newest checkpoint"
    )


def _ended(code: int) -> int:
    """The exit code; one process of several ends at once, since leaving in order would wait for
    the others."""
    if jax.distributed.is_initialized():
        sys.stderr.flush()
        os._exit(code)
    return code


def parse(arguments: list[str]) -> AnyConfig:
    """The configuration of a file with command-line overrides; `--help` prints and exits, after
    what the file's `DIFFERENCES` say.

    Overrides of a curriculum hold for all of its stages, or as `--3.field value` for the third
    alone; `--name` renames the whole.

    Raises ConfigError for a missing file, one without `CONFIG`, and unknown or bad fields.
    """
    if arguments and arguments[0] in ("-h", "--help"):
        print(USAGE)
        return parse_with_rule(RunConfig, ["--help"], PROG)
    if not arguments or arguments[0].startswith("-"):
        raise ConfigError(f"no configuration file is given; {USAGE}")
    config, differences = _load(arguments[0])
    if differences and set(arguments[1:]) & {"-h", "--help"}:
        print("differs from the paper on purpose (configs/paper.py):")
        print("\n".join(f"  {difference}" for difference in differences), end="\n\n")
    return _with_overrides(config, arguments[1:], f"train.py {arguments[0]}")


def _with_overrides(config: AnyConfig, arguments: list[str], prog: str) -> Any:
    if isinstance(config, CurriculumConfig):
        return _curriculum(config, arguments, prog)
    read = parse_with_rule if isinstance(config, RunConfig) else parse_arguments
    return read(type(config), arguments, prog, config)


def _curriculum(config: CurriculumConfig, arguments: list[str], prog: str) -> CurriculumConfig:
    """The curriculum with its stages' overrides."""
    number_of = re.compile(r"--(\d+)\.(.+)", re.DOTALL)
    shared: list[str] = []
    own: dict[int, list[str]] = {}
    current, name = shared, config.name
    for argument in _name_apart(arguments):
        found = number_of.fullmatch(argument)
        if found:
            current = own.setdefault(int(found[1]), [])
            argument = f"--{found[2]}"
        elif argument.startswith("--"):
            current = shared
        current.append(argument)
    unknown = sorted(set(own) - set(range(1, len(config.stages) + 1)))
    if unknown:
        raise ConfigError(
            f"--{unknown[0]}. names no stage; {config.name} has stages 1 to {len(config.stages)}"
        )
    while "--name" in shared[:-1]:
        place = shared.index("--name")
        name = shared[place + 1]
        del shared[place : place + 2]
    stages = tuple(
        _with_overrides(stage, shared + own.get(number, []), prog)
        for number, stage in enumerate(config.stages, start=1)
    )
    return dataclasses.replace(config, name=name, stages=stages)


def _name_apart(arguments: list[str]) -> list[str]:
    """The arguments with `--name=x` as two."""
    pairs = (a.split("=", 1) if a.startswith("--name=") else [a] for a in arguments)
    return [part for pair in pairs for part in pair]


def load_config_file(name: str | Path) -> AnyConfig:
    """Runs a configuration file and returns its `CONFIG`.

    `FILE.py:key=value,key=value` calls the `config` function of a preset with these arguments;
    without a colon it takes its defaults.

    Raises ConfigError for a file that is missing, fails, exits or defines neither, naming the line
    where it fails, and for arguments that the preset does not have or that are no values of theirs.
    """
    return _load(name)[0]


def _load(name: str | Path) -> tuple[AnyConfig, Sequence[Any]]:
    """The configuration of a file, and its `DIFFERENCES`: what it does on purpose unlike the
    paper."""
    path, colon, text = str(name).partition(".py:")
    path += ".py" if colon else ""
    what, purpose = "configuration file", "defining CONFIG"
    module = run_user_file(path, what, purpose, "see the folder configs/")
    preset = getattr(module, "config", None)
    if callable(preset):
        try:
            config = preset(**_preset_arguments(path, preset, text))
        except ConfigError:
            raise
        except InputError as error:
            raise ConfigError(f"{what} {name}: {error}") from None
    elif text:
        raise ConfigError(
            f"{what} {path} takes no arguments ({text}); leave them out, or override single fields "
            f"with --field.sub value"
        )
    else:
        config = getattr(module, "CONFIG", None)
    if not isinstance(config, AnyConfig):
        raise ConfigError(f"{what} {path} defines no CONFIG of type RunConfig; add one")
    return config, getattr(module, "DIFFERENCES", ())


def _preset_arguments(path: str, preset: Callable[..., Any], text: str) -> dict[str, Any]:
    """`views=16,devices=8` by the preset's own names and types."""
    kinds, values = get_type_hints(preset), {}
    known = list(inspect.signature(preset).parameters)
    for argument in filter(None, text.split(",")):
        key, equals, value = argument.partition("=")
        if key not in known or not equals:
            raise ConfigError(
                f"{path} has no argument {argument}; give some of {', '.join(known)} as "
                f"{path}:{known[0]}=VALUE,..."
            )
        values[key] = read_value(f"{path}:{key}", value, kinds[key])
    return values
