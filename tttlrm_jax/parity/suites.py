"""Which check a recording belongs to, by its file name and, where names collide, its content."""

import dataclasses
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path

from tttlrm_jax.core.errors import InputError
from tttlrm_jax.parity import cameras
from tttlrm_jax.parity.gsplat import suite as gsplat
from tttlrm_jax.parity.recording import load
from tttlrm_jax.parity.report import FileCheck
from tttlrm_jax.parity.ttt3r import sequences as ttt3r_sequences
from tttlrm_jax.parity.ttt3r import suite as ttt3r
from tttlrm_jax.parity.tttlrm import suite as tttlrm
from tttlrm_jax.parity.tttlrm.files import holds_checkpoint_shapes, load_json

RECORDING_SUFFIXES = (".npz", ".json")

SUITES: Mapping[str, Mapping[str, FileCheck | None]] = {
    "gsplat": gsplat.KINDS,
    "tttlrm": {**cameras.KINDS, **tttlrm.KINDS},
    "ttt3r": {**ttt3r.KINDS, **ttt3r_sequences.KINDS},
}


@dataclasses.dataclass(frozen=True)
class Found:
    """A recording, the suite it is of, and its check; `check` is None where there is none yet."""

    path: Path
    suite: str
    check: FileCheck | None


def collect(folder: Path, only: str = "*") -> tuple[list[Found], list[Path]]:
    """Recordings in `folder` and its subfolders, and files of no known kind.

    `only` is a pattern for file names. Raises InputError if nothing is found, or if a recording
    that was asked for cannot be read.
    """
    if not folder.is_dir():
        raise InputError(f"recordings folder {folder} is not a folder; give a folder of recordings")
    found, unknown = [], []
    for path in _files(folder):
        if not fnmatchcase(path.name, only):
            continue
        recording = recognise(path)
        if recording is None:
            unknown.append(path)
        else:
            found.append(recording)
    if not found:
        raise InputError(
            f"no recordings named {only} of a known kind in {folder} or its subfolders; give a "
            f"folder shaped like goldens, or one of its subfolders"
        )
    return found, unknown


def recognise(path: Path) -> Found | None:
    """The kind of one file; an unreadable one raises InputError."""
    matches = [
        Found(path, suite, check)
        for suite, kinds in SUITES.items()
        for pattern, check in list(kinds.items())
        if fnmatchcase(path.name, pattern)
    ]
    if not matches:
        return None
    _check_readable(path)
    if path.name == "checkpoint_keys.json":
        suite = "tttlrm" if holds_checkpoint_shapes(path) else "ttt3r"
        matches = [match for match in matches if match.suite == suite]
    return matches[0]


def _check_readable(path: Path) -> None:
    if path.suffix == ".json":
        load_json(path)
    else:
        load(path)


def _files(folder: Path) -> Iterator[Path]:
    folders = [folder, *sorted(p for p in folder.iterdir() if p.is_dir())]
    for each in folders:
        for path in sorted(each.iterdir()):
            if path.is_file() and path.suffix in RECORDING_SUFFIXES:
                yield path
