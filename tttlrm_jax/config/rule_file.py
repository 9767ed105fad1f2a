"""`--rule FILE.py`: a rule of the user's own, of fast weights or of recurrent states."""

import hashlib
import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tttlrm_jax.core.errors import ConfigError


def register_from_file(name: str, table: Mapping[str, Any], kind: str = "rule") -> str:
    """Runs a Python file that registers one rule in `table`; returns the rule's name.

    Entries of the table hold what builds a rule as `build`; `kind` is the word for one in errors.
    The file is a module of its own, named by its place: files of one stem stay apart.

    Raises ConfigError if there is no such file, it fails, or registers none or several.
    """
    path = Path(name).resolve()
    module_name = f"{path.stem}_{hashlib.sha256(bytes(path)).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(module_name, path) if path.is_file() else None
    if spec is None or spec.loader is None:
        raise ConfigError(f"rule file {name} does not exist; give a file that registers a rule")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # where dataclasses look up annotations that are text
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the file is the user's: whatever it raises is their mistake
        del sys.modules[module_name]
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(
            f"rule file {name} fails: {type(error).__name__}: {error}; correct it"
        ) from error
    own = [rule for rule, entry in table.items() if entry.build.__module__ == module.__name__]
    if len(own) != 1:
        raise ConfigError(
            f"rule file {name} registers {', '.join(own) or f'no {kind}'}; it must register one"
        )
    return own[0]
