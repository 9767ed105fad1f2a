"""Eight simulated devices equal one. The cases run in a process of their own: a process has the
devices it starts with."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run_cases(file: str, marker: str, devices: int = 8) -> None:
    """Runs the tests of one file with one marker in a process with simulated devices."""
    environment = os.environ | {
        "XLA_FLAGS": "--xla_backend_optimization_level=0 "
        f"--xla_force_host_platform_device_count={devices}",
        "JAX_ENABLE_X64": "1",
        "TTTLRM_TYPECHECK": "0",
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
    command = [
        sys.executable, "-m", "pytest", "-n", "0", "-m", marker, str(ROOT / "tests/sharding" / file)
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def test_mesh_cases():
    run_cases("mesh_cases.py", "not extended")


@pytest.mark.extended
@pytest.mark.timeout(3600)
def test_more_mesh_cases():
    run_cases("mesh_cases.py", "extended")
