"""Compiled programs, kept in the user's cache directory for the next run of a command."""

import hashlib
import os
import platform
import sys
import warnings
from pathlib import Path

import jax

LIMIT = 512 * 2**20  # bytes; beyond it what was used longest ago is deleted
FOLDER = "tttlrm-jax"


def keep_programs(limit: int = LIMIT) -> Path | None:
    """Has JAX keep compiled programs, however small, and returns where; call before compiling.

    Each kind of processor has a folder of its own. Entries that cannot be read are compiled again.
    Does nothing, and returns None, where JAX has a cache already (JAX_COMPILATION_CACHE_DIR) or the
    folder cannot be written.
    """
    if jax.config.jax_compilation_cache_dir is not None:  # type: ignore[attr-defined]
        return None
    folder = user_cache() / FOLDER / f"programs-{processor()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        trim(folder, limit)
    except OSError:
        return None
    if not os.access(folder, os.W_OK):
        return None
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache entry")
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return folder


def user_cache() -> Path:
    """The directory that the system has for caches of this user."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def processor() -> str:
    """A short name that differs where machine code may: instruction set and its extensions."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    wanted = ("flags", "Features", "model name", "cpu family", "model\t")
    found = sorted({line for line in lines if line.startswith(wanted)})
    text = "\n".join([platform.machine(), platform.processor(), *found])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def trim(folder: Path, limit: int) -> None:
    """Deletes the files used longest ago until the others have at most `limit` bytes."""
    files = []
    for path in folder.iterdir():
        try:
            known = path.stat()
        except FileNotFoundError:  # another process trims, too
            continue
        files.append((max(known.st_atime, known.st_mtime), known.st_size, path))
    total = sum(size for _, size, _ in files)
    for _, size, path in sorted(files, key=lambda file: file[:2]):
        if total <= limit:
            return
        path.unlink(missing_ok=True)
        total -= size
