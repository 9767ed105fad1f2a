"""What the package ships beside its code."""

from importlib import resources
from pathlib import Path

from tttlrm_jax.core.errors import InputError

QUICKSTART = "quickstart"  # weights of tttLRM
TTT3R_SMALL = "ttt3r_small"  # weights of TTT3R's network
# captures, by the names that `--capture` takes; a folder of such a name is reached as ./toy
SAMPLE, TOY = "sample", "toy"  # a procedural object at 64x64 pixels, a scanned one at 256x256
CAPTURES = {SAMPLE: "sample_capture", TOY: "toy_capture"}


def capture_path(path: str | Path | None) -> Path:
    """Where a capture lies: one that the package ships, by its name (None: the sample), or `path`.

    Raises InputError where it should be in the package and is not.
    """
    name = SAMPLE if path is None else str(path)
    return packaged(CAPTURES[name]) if name in CAPTURES else Path(name)


def packaged(name: str) -> Path:
    """A folder among the files the package ships. Raises InputError if it is not there."""
    path = Path(str(resources.files("tttlrm_jax") / "assets" / name))
    if not path.is_dir():
        option = "--checkpoint" if name in (QUICKSTART, TTT3R_SMALL) else "--capture"
        raise InputError(f"{path} is not in this installation; reinstall or give {option}")
    return path
