"""Real processes on the loopback: a job of two equals one process, and notices its dead."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tttlrm_jax.apps.train import main
from tttlrm_jax.core.errors import ConfigError, InputError
from tttlrm_jax.parallel import processes
from tttlrm_jax.parallel.processes import detected, init_distributed

ROOT = Path(__file__).resolve().parents[3]
TINY = ROOT / "tests" / "runs" / "tiny_run.py"
TIMEOUT = 20  # seconds that processes wait for each other


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def tiny(workspace: Path, name: str, *arguments: str) -> list[str]:
    return [
        str(TINY), "--name", name, "--train.directory", str(workspace / "runs"),
        "--data.cache-directory", str(workspace / "cache"), *arguments,
    ]  # fmt: skip


def start(*arguments: str, program: Path = ROOT / "train.py", devices: int = 1, **environment: str):
    """A process with so many simulated devices."""
    flags = os.environ["XLA_FLAGS"]
    command = [sys.executable, str(program), *arguments]
    environment = (
        os.environ
        | environment
        | {
            "XLA_FLAGS": f"{flags} --xla_force_host_platform_device_count={devices}",
            "TTTLRM_TYPECHECK": "0",
        }
    )
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def start_two(*arguments: str, mesh=("--mesh.data", "2", "--mesh.seq", "2"), **settings):
    """A job of two processes with two devices each; its address comes from the environment."""
    address = f"127.0.0.1:{free_port()}"
    return [
        start(
            *arguments, *mesh, "--mesh.timeout", str(TIMEOUT * 6),
            devices=2, TTTLRM_COORDINATOR=address, TTTLRM_NUM_PROCESSES="2",
            TTTLRM_PROCESS_ID=str(process), **settings,
        )
        for process in range(2)
    ]  # fmt: skip


def finish(process: subprocess.Popen, seconds: float = 400) -> tuple[int, str]:
    try:
        _, errors = process.communicate(timeout=seconds)
    finally:
        process.kill()
    return process.returncode, errors


def losses(workspace: Path, name: str) -> dict[int, float]:
    lines = (workspace / "runs" / name / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    return {r["step"]: r["loss"] for r in records if r["kind"] == "train"}


def wait_for_a_step(workspace: Path, job) -> None:
    metrics = workspace / "runs" / "job" / "metrics.jsonl"
    deadline = time.monotonic() + 400
    while not (metrics.exists() and metrics.stat().st_size):
        assert time.monotonic() < deadline, "the job never took a step"
        assert all(process.poll() is None for process in job)
        time.sleep(0.2)


@pytest.mark.timeout(1800)
def test_two_processes_save_what_one_resumes_on_another_mesh(tmp_path, capfd):
    """Scenes over two processes, views over two devices of each; then, on half as many devices,
    parameters over two. The run that both equal is one of this process; rendering is deferred in
    the job alone, whose devices have two scenes each."""
    batch = ("--train.batch-size", "4")
    deferred = (*batch, "--train.deferred-rendering", "--train.rendering-bands", "2")
    for process in start_two(*tiny(tmp_path, "job", "--train.num-steps", "5", *deferred)):
        code, errors = finish(process)
        assert code == 0, errors[-3000:]
    assert main(tiny(tmp_path, "one", "--train.num-steps", "5", *batch)) == 0
    assert set(losses(tmp_path, "job")) == {1, 2, 3, 4, 5}
    other = ("--mesh.data", "1", "--mesh.seq", "1", "--mesh.fsdp", "2", "--train.num-steps", "7")
    code, errors = finish(start(*tiny(tmp_path, "job", *other, *deferred), devices=2))
    assert code == 0, errors[-3000:]
    assert "resumed" in errors
    capfd.readouterr()
    assert main(tiny(tmp_path, "one", "--train.num-steps", "7", *batch)) == 0
    assert "resumed" in capfd.readouterr().err
    ours, theirs = losses(tmp_path, "job"), losses(tmp_path, "one")
    assert set(ours) == set(range(1, 8))
    assert ours == pytest.approx(theirs, rel=1e-4)


LVSM = (
    "--model.kind", "lvsm", "--model.output-norm", "merged", "--loss.opacity", "0",
    "--train.batch-size", "4",
)  # fmt: skip


@pytest.mark.timeout(1800)
def test_two_processes_train_an_lvsm_that_one_device_resumes(tmp_path, capfd):
    """Four devices of two processes part the scenes; the run that both equal is of one device."""
    mesh = ("--mesh.data", "4", "--mesh.seq", "1")
    for process in start_two(*tiny(tmp_path, "job", "--train.num-steps", "3", *LVSM), mesh=mesh):
        code, errors = finish(process)
        assert code == 0, errors[-3000:]
    assert main(tiny(tmp_path, "one", "--train.num-steps", "3", *LVSM)) == 0
    for name in ("job", "one"):
        capfd.readouterr()
        assert main(tiny(tmp_path, name, "--train.num-steps", "5", *LVSM)) == 0
        assert "resumed" in capfd.readouterr().err
    ours, theirs = losses(tmp_path, "job"), losses(tmp_path, "one")
    assert set(ours) == set(range(1, 6))
    assert ours == pytest.approx(theirs, rel=1e-4)


ENDLESS = (
    "--train.num-steps", "100000", "--train.eval-every", "100000",
    "--train.checkpoint-every", "100000",
)  # fmt: skip


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("victim", [0, 1], ids=["coordinator", "other"])
def test_the_survivor_of_two_ends_with_an_error(tmp_path, victim):
    job = start_two(*tiny(tmp_path, "job", *ENDLESS))
    wait_for_a_step(tmp_path, job)
    job[victim].send_signal(signal.SIGKILL)
    code, errors = finish(job[1 - victim], seconds=TIMEOUT * 6 + 60)
    assert code not in (0, None)
    assert "cannot reach the others" in errors or "detected fatal errors" in errors, errors[-3000:]


@pytest.mark.timeout(1800)
def test_a_signal_to_one_of_two_stops_both_after_the_same_step(tmp_path, monkeypatch):
    monkeypatch.setenv("TTTLRM_UNFINISHED_EXIT", "75")
    job = start_two(*tiny(tmp_path, "job", *ENDLESS))
    wait_for_a_step(tmp_path, job)
    job[1].send_signal(signal.SIGTERM)
    for process in job:
        code, errors = finish(process)
        assert code == 75, errors[-3000:]
    (saved,) = (tmp_path / "runs" / "job" / "checkpoints").glob("[0-9]*")
    assert int(saved.name) == max(losses(tmp_path, "job"))


@pytest.mark.timeout(900)
def test_a_signal_to_one_of_two_before_the_first_step(tmp_path, monkeypatch):
    """Amid the model, the scenes, which the first process renders, and what only it writes; one run
    of the same two processes after the other."""
    monkeypatch.setenv("TTTLRM_UNFINISHED_EXIT", "75")
    cases = {  # whether the preparation begins in each process
        "0:fresh_state": (True, True), "1:fresh_state": (True, True),
        "0:make_loader": (True, False), "1:make_loader": (True, True),
        "0:write_run_directory": (True, False),
    }  # fmt: skip
    job = start_two(
        *ENDLESS, program=ROOT / "tests" / "runs" / "signalled_runs.py",
        SIGNALLED=" ".join(cases), WORKSPACE=str(tmp_path),
    )  # fmt: skip
    for process, ended in enumerate(job):
        code, errors = finish(ended)
        assert code == 75, errors[-3000:]
        (said,) = (line for line in errors.splitlines() if line.startswith("ended: "))
        ends = json.loads(said.removeprefix("ended: "))
        assert ends == [[75, begins[process]] for begins in cases.values()], errors[-3000:]
    assert not list(tmp_path.glob("*/runs/*/checkpoints/[0-9]*"))


JOINED_BY_ITS_USER = """
import os, signal, sys
import jax
from tttlrm_jax.core.errors import ConfigError
from tttlrm_jax.parallel.processes import init_distributed
address = sys.argv[1]
jax.distributed.initialize(address, 1, 0)
init_distributed()
init_distributed(address, 1, 0)
init_distributed(environment={"TTTLRM_COORDINATOR": "auto"})
for settings in ((address, 2, 0), (address, 1, 1)):
    try:
        init_distributed(*settings)
    except ConfigError as error:
        print(error)
"""
DEVICES_USED_BEFORE = """
import sys
import jax.numpy as jnp
from tttlrm_jax.core.errors import ConfigError
from tttlrm_jax.parallel.processes import init_distributed
jnp.zeros(2).block_until_ready()
init_distributed(sys.argv[1], 1, 0)
try:
    init_distributed(sys.argv[1], 2, 0, timeout=20)
except ConfigError as error:
    print(error)
"""
SIGNAL_TAKEN_BACK = """
import signal, sys
from tttlrm_jax.parallel.processes import _initialize
signal.signal(signal.SIGTERM, lambda number, frame: print("noted"))
_initialize("here", 20, coordinator_address=sys.argv[1], num_processes=1, process_id=0)
signal.raise_signal(signal.SIGTERM)
"""


def said_by(script: str) -> list[str]:
    """Lines that a script prints in a process of its own, which has to end well."""
    command = [sys.executable, "-c", script, f"127.0.0.1:{free_port()}"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    return ended.stdout.splitlines()


def test_a_job_that_the_user_has_joined_is_kept():
    processes, number = said_by(JOINED_BY_ITS_USER)
    assert processes.startswith("num_processes=2 is not the 1 of the job that JAX has joined")
    assert number.startswith("process_id=1 is not the 0 of the job that JAX has joined")


def test_devices_used_before_the_processes_met():
    (error,) = said_by(DEVICES_USED_BEFORE)
    assert "cannot be met once JAX's devices have been used; call init_distributed" in error


def test_jax_does_not_keep_the_signal():
    assert said_by(SIGNAL_TAKEN_BACK) == ["noted"]


def test_a_coordinator_that_is_not_there_is_named_in_time(tmp_path):
    address = f"127.0.0.1:{free_port()}"
    lonely = start(
        *tiny(tmp_path, "lonely"), "--mesh.coordinator", address, "--mesh.num-processes", "2",
        "--mesh.process-id", "1", "--mesh.timeout", "2",
    )  # fmt: skip
    code, errors = finish(lonely, seconds=200)
    assert code == 2
    assert f"coordinator={address} has not brought all processes together after 2 s" in errors
    assert "Traceback" not in errors


def test_settings_of_processes_are_checked():
    with pytest.raises(ConfigError, match="TTTLRM_NUM_PROCESSES, TTTLRM_PROCESS_ID is not set"):
        init_distributed(environment={"TTTLRM_COORDINATOR": "host:1"})
    with pytest.raises(ConfigError, match="are no whole numbers"):
        init_distributed(
            environment={
                "TTTLRM_COORDINATOR": "host:1",
                "TTTLRM_NUM_PROCESSES": "two",
                "TTTLRM_PROCESS_ID": "0",
            }
        )
    with pytest.raises(ConfigError, match="process_id=2 of num_processes=2"):
        init_distributed("host:1", 2, 2)
    with pytest.raises(InputError, match="has no port"):
        init_distributed("host", 2, 0)
    init_distributed("host:1", 1, 0)  # alone: nothing to do
    init_distributed(environment={})
    step = {"SLURM_NTASKS": "4", "SLURM_PROCID": "1", "SLURM_STEP_ID": "0"}
    assert detected(step | {"SLURM_STEP_NUM_TASKS": "4"}) == "SLURM"
    assert detected(step | {"SLURM_STEP_NUM_TASKS": "1"}) is None  # srun -n 1 in a larger job
    assert detected({"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}) is None  # a batch script
    assert detected({"TPU_WORKER_HOSTNAMES": "a,b"}) == "TPU"
    assert detected({"KUBERNETES_SERVICE_HOST": "h", "JOBSET_NAME": "j"}) == "Kubernetes"
    assert detected({"SLURM_NTASKS": "1", "SLURM_PROCID": "0"}) is None


def test_processes_meet_without_the_private_name_of_jax(monkeypatch):
    """A newer JAX that has renamed it: they meet through the devices, a number for each time."""
    labels: list[str] = []
    monkeypatch.setitem(sys.modules, "jax._src.distributed", None)  # importing it fails
    monkeypatch.setattr(processes.jax, "process_count", lambda: 2)
    monkeypatch.setattr(processes.multihost_utils, "sync_global_devices", labels.append)
    for _ in range(2):
        processes.meet("here")
    assert labels == ["tttlrm here 1", "tttlrm here 2"]
    monkeypatch.setattr(processes.jax, "process_count", lambda: 1)
    processes.meet("here")
    assert len(labels) == 2
