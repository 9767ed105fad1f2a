"""Small JSON files beside a run's configuration: by what it knows again what it began with."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from tttlrm_jax.core.errors import InputError

_Record = TypeVar("_Record")


def write_record(path: Path, document: dict[str, Any]) -> None:
    """Writes a record into a run's directory. Raises InputError where it cannot be written."""
    try:
        path.write_text(json.dumps(document) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError.of(
            "train.directory", path.parent, f"cannot be written ({error.strerror})",
            "choose another directory",
        ) from error  # fmt: skip


def read_record(path: Path, parse: Callable[[Any], _Record], own: str) -> _Record | None:
    """What `parse` makes of a record; None if none was kept.

    Raises InputError for a file that cannot be read or parsed; `own` says, in the remedy, when it
    may be deleted.
    """
    if not path.exists():
        return None
    try:
        return parse(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError.of(
            "run", path, f"cannot be read ({type(error).__name__})", f"delete it if {own}"
        ) from error
