"""Launch files parse, and state the number of processes once."""

import json
import subprocess
from pathlib import Path

import pytest

LAUNCH = Path(__file__).resolve().parents[2] / "launch"


@pytest.mark.parametrize("script", sorted(LAUNCH.glob("*.sh")), ids=lambda path: path.name)
def test_scripts_are_shell(script):
    subprocess.run(["bash", "-n", str(script)], check=True)


def test_the_signal_reaches_the_process_of_an_image():
    """A shell as process 1 would keep SIGTERM to itself, and Python there misses an early one."""
    lines = (LAUNCH / "Dockerfile").read_text().splitlines()
    (entry,) = (line for line in lines if line.startswith("ENTRYPOINT"))
    assert json.loads(entry.removeprefix("ENTRYPOINT")) == ["tini", "--", "python", "train.py"]
    assert any("apt-get install" in line and "tini" in line for line in lines)


def test_job_set_has_as_many_pods_as_processes():
    yaml = pytest.importorskip("yaml")
    job_set = yaml.safe_load((LAUNCH / "jobset.yaml").read_text())
    (jobs,) = job_set["spec"]["replicatedJobs"]
    job = jobs["template"]["spec"]
    (container,) = job["template"]["spec"]["containers"]
    variables = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert job["parallelism"] == job["completions"] == int(variables["TTTLRM_NUM_PROCESSES"])
    host = f"{job_set['metadata']['name']}-{jobs['name']}-0-0.{job_set['metadata']['name']}"
    assert variables["TTTLRM_COORDINATOR"].split(":")[0] == host
