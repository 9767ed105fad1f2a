"""A run that saved before its end, and how a scheduler learns of it."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tttlrm_jax.apps import train as command
from tttlrm_jax.config.command_line import UNFINISHED_EXIT
from tttlrm_jax.training.trainer import RunResult

ROOT = Path(__file__).resolve().parents[3]
SMOKE = str(ROOT / "configs" / "smoke.py")


@pytest.mark.parametrize(
    ("stopped_by", "finished", "wanted", "code"),
    [
        (signal.SIGTERM, False, None, 0),
        (signal.SIGTERM, False, "75", 75),
        (None, False, "75", 75),  # the signal went to another process of the job
        (signal.SIGTERM, True, "75", 0),
        (signal.SIGINT, False, "75", 130),
    ],
)
def test_exit_code_tells_that_there_is_more_to_do(monkeypatch, stopped_by, finished, wanted, code):
    monkeypatch.setattr(
        command,
        "train",
        lambda config, stop: RunResult(3, stopped_by, finished, None, Path("runs/x")),
    )
    monkeypatch.delenv(UNFINISHED_EXIT, raising=False)
    if wanted is not None:
        monkeypatch.setenv(UNFINISHED_EXIT, wanted)
    assert command.main([SMOKE]) == code


@pytest.mark.parametrize("wanted", ["many", "-1", "300", ""])
def test_what_is_no_exit_code_is_refused_before_the_run(monkeypatch, capsys, wanted):
    monkeypatch.setenv(UNFINISHED_EXIT, wanted)
    assert command.main([SMOKE]) == 2
    assert f"{UNFINISHED_EXIT}={wanted} is no exit code" in capsys.readouterr().err


@pytest.mark.parametrize(("code", "queued"), [(0, False), (1, False), (75, True), (137, False)])
def test_slurm_job_queues_itself_again_only_when_unfinished(tmp_path, code, queued):
    """Stand-ins for SLURM's commands: `srun` ends as told, `scontrol` notes what it is asked."""
    asked = tmp_path / "asked"
    for name, line in (
        ("srun", f'[ "$TTTLRM_UNFINISHED_EXIT" = 75 ] && exit {code}'),
        ("scontrol", f'echo "$*" > {asked}'),
    ):
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "17"}
    script = ["bash", str(ROOT / "launch" / "slurm.sh"), "configs/smoke.py"]
    ended = subprocess.run(script, env=environment, check=False)
    assert ended.returncode == (0 if queued else code)
    assert asked.exists() == queued
    assert not queued or asked.read_text() == "requeue 17\n"
