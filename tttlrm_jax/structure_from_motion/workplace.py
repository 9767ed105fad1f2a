"""The directory in which cameras are looked for and kept: a capture once they are found.

    NAME-sfm/
      images/                 the pictures by link, upright copies where needed, or frames of a film
      masks/                  theirs, if they have any
      sparse/0/*.bin          the COLMAP model
      cameras_found.json      of which pictures, how, and which of them have a camera
      .work/                  while it lasts: features and matches, which a killed run goes on from

It is another run's where its record names another source, and nobody's where there is no record:
such directories are left alone, and NAME-sfm-2 is taken.
"""

import contextlib
import dataclasses
import itertools
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tttlrm_jax.core.files.output_directory import creation_errors, disk_errors
from tttlrm_jax.core.files.whole_files import write_whole

RECORD = "cameras_found.json"
WORK, LOCK = ".work", ".lock"
OWN = ("images", "masks", "sparse", WORK, "opencv_cameras.json", RECORD)


@dataclasses.dataclass(frozen=True)
class Workplace:
    """A directory that is ours alone while it is open."""

    directory: Path

    @property
    def images(self) -> Path:
        return self.directory / "images"

    @property
    def masks(self) -> Path:
        return self.directory / "masks"

    @property
    def work(self) -> Path:
        """Holds what is not kept; made when asked for."""
        path = self.directory / WORK
        path.mkdir(exist_ok=True)
        return path

    @property
    def record(self) -> dict[str, Any]:
        return _read(self.directory) or {}

    def note(self, **entries: Any) -> None:
        """Adds to the record, which is the old or the new one at every moment."""
        text = json.dumps(self.record | entries, indent=1)
        write_whole(self.directory / RECORD, text + "\n")

    def begin(self, digest: str) -> None:
        """Keeps what was made of the same pictures, found or half done, and clears all else."""
        record = self.record
        if record.get("digest") == digest:
            return
        if record.get("complete"):
            print(f"  the pictures of {self.directory} have changed: again", file=sys.stderr)
        for name in OWN:
            path = self.directory / name
            if name != RECORD:
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        write_whole(self.directory / RECORD, json.dumps({"source": record["source"]}))
        self.note(digest=digest, complete=False)

    def complete(self, **entries: Any) -> None:
        """Notes what was found; the model is in place. What was only work is deleted."""
        self.note(complete=True, **entries)
        shutil.rmtree(self.directory / WORK, ignore_errors=True)


@contextlib.contextmanager
def workplace(parent: Path, name: str, source: Path) -> Iterator[Workplace]:
    """The directory for a source, waiting for another run that is at work in it.

    Raises InputError where it cannot be made or written.
    """
    with creation_errors(parent / name):
        parent.mkdir(parents=True, exist_ok=True)
        directory = _place(parent, name, source)
        directory.mkdir(exist_ok=True)
        if _read(directory) is None:
            write_whole(directory / RECORD, json.dumps({"source": str(source)}))
    with disk_errors(directory, directory), _alone(directory):
        yield Workplace(directory)


def _place(parent: Path, name: str, source: Path) -> Path:
    """The first of NAME, NAME-2, ... that is this source's, or does not exist yet."""
    for number in itertools.count(1):
        place = parent / (name if number == 1 else f"{name}-{number}")
        record = _read(place)
        mine = record is not None and record.get("source") == str(source)
        if mine or not place.exists() or (place.is_dir() and not any(place.iterdir())):
            return place
    raise AssertionError


def _read(directory: Path) -> dict[str, Any] | None:
    """The record of a directory; None where there is none that can be read."""
    try:
        record = json.loads((directory / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and "source" in record else None


@contextlib.contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Waits until no other process is at work here, where the system has such locks."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    with (directory / LOCK).open("wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            print(f"  waiting for another run that works in {directory} ...", file=sys.stderr)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
