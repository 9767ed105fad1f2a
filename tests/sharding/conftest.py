"""Eight simulated devices in every process; float64 but where a file says `FLOAT64 = False`.

A set of its own, `pytest tests/sharding`: a process has the devices it starts with, so that these
files never share one with other tests.
"""

import os

os.environ["XLA_FLAGS"] += " --xla_force_host_platform_device_count=8"
os.environ["TTTLRM_TYPECHECK"] = "0"

import jax
import pytest


@pytest.fixture(scope="module", autouse=True)
def precision(request):
    """What `jax_enable_x64` is in a file."""
    jax.config.update("jax_enable_x64", getattr(request.module, "FLOAT64", True))
    yield
    jax.config.update("jax_enable_x64", False)
