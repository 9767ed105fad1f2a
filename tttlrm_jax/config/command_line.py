"""Command lines of dataclasses: tyro's parsing, but one sentence for a mistake."""

import contextlib
import io
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar, get_args, get_origin

import tyro

from tttlrm_jax.core.errors import ConfigError, InputError

EXIT_LOST_PROCESS = 1
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130
UNFINISHED_EXIT = "TTTLRM_UNFINISHED_EXIT"

BOOLEANS = {"true": True, "false": False}

_Config = TypeVar("_Config")


def unfinished_exit(environment: Mapping[str, str]) -> int:
    """The exit code of a run that stopped before its end; every process of a job has the same."""
    text = environment.get(UNFINISHED_EXIT, "0")
    if not (text.isascii() and text.isdigit() and int(text) < 126):
        raise InputError.of(
            UNFINISHED_EXIT, text, "is no exit code from 0 to 125", "set it to e.g. 75, or unset it"
        )
    return int(text)


def run_command(
    kind: type[_Config],
    run: Callable[[_Config], object],
    prog: str,
    arguments: list[str] | None = None,
) -> int:
    """Runs a command that takes `kind`, by default from the process's arguments: its exit code.

    0 when it is done, 2 after one sentence on standard error about bad input.
    """
    try:
        run(parse_arguments(kind, sys.argv[1:] if arguments is None else arguments, prog))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    return 0


def parse_arguments(
    kind: type[_Config], arguments: list[str], prog: str, default: _Config | None = None
) -> _Config:
    """Builds `kind` from arguments such as `--field.sub value`; `--help` prints and exits.

    Raises ConfigError in one sentence for unknown fields (with near names) and bad values.
    """
    message = io.StringIO()
    try:
        with contextlib.redirect_stderr(message):
            if default is None:
                return tyro.cli(kind, args=arguments, prog=prog)
            return tyro.cli(kind, args=arguments, prog=prog, default=default)
    except SystemExit as end:
        if end.code in (0, None):
            raise
        raise ConfigError(_one_sentence(message.getvalue(), prog)) from None


def read_value(argument: str, text: str, kind: Any) -> Any:
    """The value that `text` gives for an `argument` of a plain type or a Literal.

    Raises ConfigError where it gives none.
    """
    if get_origin(kind) is Literal:
        for choice in get_args(kind):
            if str(choice) == text:
                return choice
        raise ConfigError(f"{argument}={text} is unknown; use one of {get_args(kind)}")
    if kind is bool:
        if text.lower() not in BOOLEANS:
            raise ConfigError(f"{argument}={text} is not True or False; give one of them")
        return BOOLEANS[text.lower()]
    try:
        return kind(text)
    except ValueError:
        wanted = "a whole number" if kind is int else "a number"
        raise ConfigError(f"{argument}={text} is not {wanted}; give one") from None


def _one_sentence(text: str, prog: str) -> str:
    """The core of tyro's framed message."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    lines = [line.strip(" │╭╮╰╯┃") for line in plain.splitlines()]
    content = [line for line in lines if line and not re.fullmatch(r"[─━-]+", line)]
    body = content[1:] if len(content) > 1 else content
    stop = ("Perhaps you meant", "For full helptext", "Got errors", "Argument helptext")
    core: list[str] = []
    for line in body:
        if line.startswith(stop):
            break
        core.append(line)
    near = re.search(r"Perhaps you meant:?\s+(--?[\w.-]+)", " ".join(body))
    sentence = re.sub(r"^Error parsing [\w.]*Config:\s*", "", " ".join(core)).rstrip(".")
    hint = f"did you mean {near.group(1)}? See" if near else "see"
    return f"{sentence}; {hint} {prog} --help"
