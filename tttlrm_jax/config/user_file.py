"""Python files of users: configurations, update rules, protocols."""

import hashlib
import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType

from tttlrm_jax.core.errors import ConfigError, InputError


def run_user_file(path: str | Path, what: str, purpose: str, remedy: str) -> ModuleType:
    """Runs a Python file as a module of its own, named by its place: files of one stem stay apart.

    `what` is the word for such a file in errors, `purpose` what it is for ("defining CONFIG"),
    `remedy` what to do where it is missing.

    Raises ConfigError for a file that is missing, fails or exits, with the line where it fails;
    then no module is left behind.
    """
    file = Path(path).resolve()
    if not file.is_file():
        raise ConfigError(f"{what} {path} does not exist; {remedy}")
    name = f"{file.stem}_{hashlib.sha256(bytes(file)).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{what} {path} is not a Python file; name a .py file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses look up annotations that are text
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if not isinstance(error, Exception | SystemExit):  # an interrupt is nobody's mistake
            raise
        raise ConfigError(_failure(f"{what} {path}", spec.origin, purpose, error)) from error
    return module


def _failure(where: str, origin: str | None, purpose: str, error: BaseException) -> str:
    """One sentence with file, line and error; tracebacks call the file `origin`."""
    line = error.lineno if isinstance(error, SyntaxError) and error.filename == origin else None
    for frame in traceback.extract_tb(error.__traceback__):
        line = frame.lineno if frame.filename == origin else line
    where += "" if line is None else f", line {line}"
    text = " ".join(str(error).split())
    if isinstance(error, InputError):
        return f"{where}: {text}"
    if isinstance(error, SystemExit):
        return f"{where} calls sys.exit({error.code!r}) instead of {purpose}; correct it"
    return f"{where} fails ({type(error).__name__}: {text}); correct it"
