"""A directory that appears complete or not at all."""

import contextlib
import datetime
import errno
import os
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

from tttlrm_jax.core.errors import InputError

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def default_output(name: str, otherwise: str = "") -> Path:
    """`outputs/NAME-DATE-TIME`, its characters fit for files; `otherwise` where none is left."""
    safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in name).strip(".")
    return Path("outputs") / f"{safe or otherwise}-{datetime.datetime.now():%Y%m%d-%H%M%S}"


@contextlib.contextmanager
def atomic_directory(
    target: Path, own_files: Collection[str], field: str = "output"
) -> Iterator[Path]:
    """Gives a hidden directory beside `target` to write into, and renames it at the end.

    On any exception, interrupts included, it is removed with the parents made for it. An existing
    `target` is replaced as a whole if it holds nothing but `own_files`. Raises InputError, which
    calls it `field`, where it holds anything else or cannot be written, a full disk included.
    """
    target = target.absolute()
    created: list[Path] = []
    draft = target.parent / f".{target.name}.{os.getpid()}.partial"
    try:
        with creation_errors(target, field):
            check_replaceable(target, own_files, field)
            _make_directories(target.parent, created)
            draft.mkdir()
            created.append(draft)
    except InputError:
        _remove(created)
        raise
    try:
        with disk_errors(draft, target, field):
            yield draft
            _publish(draft, target)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        _remove(created)
        raise


@contextlib.contextmanager
def creation_errors(target: Path, field: str = "output") -> Iterator[None]:
    """Turns a failure to make `target` into InputError, which calls it `field`."""
    try:
        yield
    except OSError as error:
        raise InputError.of(
            field, target, f"cannot be written ({error.strerror})", "choose another directory"
        ) from None


@contextlib.contextmanager
def disk_errors(draft: Path, target: Path, field: str = "output") -> Iterator[None]:
    """Turns a failure to write below `draft` into InputError on `target`, which it calls `field`.

    A full disk does not say which file it is about: where two drafts are open, wrap each of the
    parts that write.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None and isinstance(error.__context__, BrokenPipeError):
            error = error.__context__  # ffmpeg ended before its time
        elif not _is_about(error, draft, target):
            raise
        raise InputError.of(
            field, target, f"cannot be written ({error.strerror})",
            "free space on its disk or choose another directory",
        ) from error  # fmt: skip


def _is_about(error: OSError, *directories: Path) -> bool:
    """Whether the error names a file below one of them, or none and tells of a full disk."""
    if not isinstance(error.filename, str | bytes | os.PathLike):
        return error.errno in DISK_FULL
    path = Path(os.fsdecode(error.filename))
    return any(path.is_relative_to(directory) for directory in directories)


def check_replaceable(target: Path, own_files: Collection[str], field: str) -> None:
    """Raises InputError where `target` is a file, or a directory that holds other files."""
    if not os.path.lexists(target):
        return
    if not target.is_dir():
        raise InputError.of(field, target, "exists and is a file", "choose another directory")
    foreign = sorted({entry.name for entry in target.iterdir()} - set(own_files))
    if foreign:
        raise InputError.of(
            field, target, f"holds {foreign[0]}, which this command does not write",
            "choose a new directory or empty it",
        )  # fmt: skip


def _make_directories(directory: Path, created: list[Path]) -> None:
    """`mkdir -p` that records what it made."""
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    for path in reversed(missing):
        path.mkdir()
        created.append(path)


def _remove(created: list[Path]) -> None:
    """Takes back the directories that are still empty."""
    for path in reversed(created):
        with contextlib.suppress(OSError):
            path.rmdir()


def _publish(draft: Path, target: Path) -> None:
    """Renames the draft; what was at `target` comes back where anything fails or interrupts."""
    old = draft.with_suffix(".old")
    try:
        if target.exists():
            target.rename(old)
        draft.rename(target)
    except BaseException:
        if old.exists() and not target.exists():
            old.rename(target)
        raise
    finally:
        if old.exists() and target.exists():
            shutil.rmtree(old)
