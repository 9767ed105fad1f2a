"""The names of the package itself, which are imported when they are asked for."""

import subprocess
import sys

import pytest

import tttlrm_jax


def test_every_public_name_is_there():
    for name in tttlrm_jax.__all__:
        assert getattr(tttlrm_jax, name).__name__ == name
        assert getattr(tttlrm_jax, name).__doc__
        assert name in vars(tttlrm_jax)  # kept: later look-ups are plain ones
    assert {*tttlrm_jax.__all__, "__version__"} <= set(dir(tttlrm_jax))
    assert tttlrm_jax.__version__


def test_a_name_that_is_not_there():
    with pytest.raises(AttributeError, match="no attribute Camera") as error:
        _ = tttlrm_jax.Camera
    assert (error.value.name, error.value.obj) == ("Camera", tttlrm_jax)  # "Did you mean"


def test_the_package_alone_loads_nothing_slow():
    """Its public names are listed all the same."""
    script = """
import sys
import tttlrm_jax
print({"jax", "numpy", "tyro"} & {*sys.modules}, {*tttlrm_jax.__all__} <= {*dir(tttlrm_jax)})
from tttlrm_jax import *
print("jax" in sys.modules, Cameras.__name__)
"""
    said = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert said.stdout == "set() True\nTrue Cameras\n"
