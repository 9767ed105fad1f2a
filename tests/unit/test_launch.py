"""Launch files parse, and state the number of processes once."""

import subprocess
from pathlib import Path

import pytest

LAUNCH = Path(__file__).resolve().parents[2] / "launch"


@pytest.mark.parametrize("script", sorted(LAUNCH.glob("*.sh")), ids=lambda path: path.name)
def test_scripts_are_shell(script):
    subprocess.run(["bash", "-n", str(script)], check=True)


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
