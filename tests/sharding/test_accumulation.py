"""Gradient accumulation over a mesh, in a process with simulated devices."""

import pytest

from tests.sharding.test_mesh import run_cases


@pytest.mark.extended
@pytest.mark.timeout(3600)
def test_accumulation_cases():
    run_cases("accumulation_cases.py", marker="extended or not extended", devices=4)
