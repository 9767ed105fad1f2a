"""Formats that PlayCanvas's splat-transform (npm, MIT) makes of our PLY, and reads: SOG, compressed
PLY.

It is the program of those who made the formats. It is taken from the PATH, else npx fetches and
runs the version named here.
"""

import functools
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from tttlrm_jax.core.errors import InputError, one_line
from tttlrm_jax.core.types import Gaussians
from tttlrm_jax.export.splats.ply import read_ply, write_ply
from tttlrm_jax.export.splats.writable import ExportCount

PACKAGE = "@playcanvas/splat-transform@3.7.0"
PROGRAM = "splat-transform"
SECONDS = 1800
REMEDY = f"install Node.js, or run `npm install -g {PACKAGE}`, or use .ply"
OPTIONS = {".sog": ("-g", "cpu"), ".compressed.ply": ()}  # a CPU does, where no GPU is at hand


def converter() -> list[str]:
    """The command that runs splat-transform; raises InputError where there is none."""
    if found := shutil.which(PROGRAM):
        return [found]
    if found := shutil.which("npx"):
        return [found, "--yes", PACKAGE]
    raise InputError(f"{PROGRAM}, which makes {' and '.join(OPTIONS)}, is not found; {REMEDY}")


def write_converted(
    suffix: str,
    path: Path | str,
    gaussians: Gaussians,
    *,
    min_opacity: float = 0.0,
    offset: np.ndarray | None = None,
) -> ExportCount:
    """Writes one scene in the format of `suffix`, through a PLY in a temporary folder.

    Raises InputError where the program is not found, or fails: with the last line of what it said.
    """
    del offset
    command = converter()
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "scene.ply", Path(folder) / f"scene{suffix}"
        count = write_ply(source, gaussians, min_opacity=min_opacity)
        run([*command, "--overwrite", *OPTIONS[suffix], str(source), str(target)])
        if not target.is_file():
            raise InputError(f"{PROGRAM} wrote no {suffix}; write .ply, and convert it by hand")
        shutil.copyfile(target, path)
    return count


def read_converted(path: Path | str) -> Gaussians:
    """The Gaussians of a file of these formats, through a PLY in a temporary folder.

    Raises InputError as `write_converted` does.
    """
    if not Path(path).is_file():
        raise InputError(f"{path} cannot be read (there is no such file); check the path")
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "scene.ply"
        run([*converter(), "--overwrite", str(path), str(target)])
        return read_ply(target)


def run(command: list[str]) -> None:
    """Raises InputError, with the last line of what the program said, where it fails."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=SECONDS, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        raise InputError(f"{PROGRAM} took more than {SECONDS} s; use .ply") from None
    except OSError as error:
        raise InputError(f"{PROGRAM} cannot be run ({error.strerror}); {REMEDY}") from None
    if done.returncode:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        said = one_line(lines[-1], 300) if lines else "nothing"
        raise InputError(f"{PROGRAM} failed (it said: {said}); use .ply, and convert it by hand")


write_sog = functools.partial(write_converted, ".sog")
write_compressed_ply = functools.partial(write_converted, ".compressed.ply")
