"""What the package ships beside its code."""

from importlib import resources
from pathlib import Path

from tttlrm_jax.core.errors import InputError

QUICKSTART = "quickstart"  # weights of tttLRM
TTT3R_SMALL = "ttt3r_small"  # weights of TTT3R's network


def packaged(name: str) -> Path:
    """A folder among the files the package ships. Raises InputError if it is not there."""
    path = Path(str(resources.files("tttlrm_jax") / "assets" / name))
    if not path.is_dir():
        option = "--checkpoint" if name in (QUICKSTART, TTT3R_SMALL) else "--capture"
        raise InputError(f"{path} is not in this installation; reinstall or give {option}")
    return path
