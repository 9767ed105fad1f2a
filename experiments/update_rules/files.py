"""The laboratory's two files: checked before anything is measured, written after every rule."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from experiments.update_rules.page import write_page
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.files.json_values import finite

NUMBERS, PAGE = "update_rules.json", "update_rules.html"


def check_directory(directory: Path) -> None:
    """Raises InputError if `directory` is there and is no directory; creates nothing."""
    if directory.exists() and not directory.is_dir():
        raise InputError.of("output", directory, "is a file", "choose a directory")


def make_directory(directory: Path) -> None:
    """Creates it with its parents, and a draft in it. Raises InputError if it takes no files."""
    with _writing(directory):
        directory.mkdir(parents=True, exist_ok=True)
        draft = directory / f"{NUMBERS}.tmp"
        draft.write_text("")
        draft.unlink()


def write_results(directory: Path, results: dict[str, Any]) -> None:
    """Numbers as JSON, where null stands for those that are not finite, and the page of them.

    Raises InputError if they cannot be written; each older file is whole until it is replaced.
    """
    results = finite(results)
    texts = {
        NUMBERS: json.dumps(results, indent=1, allow_nan=False) + "\n",
        PAGE: write_page(results),
    }
    with _writing(directory):
        for name, text in texts.items():
            draft = directory / f"{name}.tmp"
            draft.write_text(text)
            draft.replace(directory / name)


@contextlib.contextmanager
def _writing(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError.of(
            "output", directory, f"cannot be written ({error.strerror})",
            "free space on its disk or choose another directory",
        ) from error  # fmt: skip
