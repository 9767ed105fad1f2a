"""The installed commands run the mains of train.py and eval.py and keep freed memory."""

import importlib
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tttlrm_jax import host_memory
from tttlrm_jax.commands import console, evaluate, train

PROJECT = Path(__file__).parents[3] / "pyproject.toml"
MAINS = {"train": train, "evaluate": evaluate}


@pytest.fixture(autouse=True)
def _signals():
    """`train` leaves SIGTERM ignored, as the process is to end."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("name", ["train", "evaluate"])
def test_commands_keep_memory_and_return_the_exit_code(monkeypatch, name):
    calls = []
    monkeypatch.setattr(host_memory, "keep_freed_memory", lambda: calls.append("kept"))
    monkeypatch.setattr(MAINS[name], "main", lambda: calls.append("ran") or 7)
    assert getattr(console, name)() == 7
    assert calls == ["kept", "ran"]


@pytest.mark.parametrize(("wanted", "code"), [("0", 0), ("75", 75)])
@pytest.mark.parametrize("amid", ["keep_freed_memory", "main"])
def test_sigterm_before_the_run_ends_the_command(monkeypatch, capsys, amid, wanted, code):
    """Noted while modules are imported and set up, raised at once while processes are met."""
    ran = []

    def signalled():
        signal.raise_signal(signal.SIGTERM)
        ran.append(amid)

    monkeypatch.setenv("TTTLRM_UNFINISHED_EXIT", wanted)
    monkeypatch.setattr(host_memory, "keep_freed_memory", lambda: None)
    monkeypatch.setattr(train, "main", lambda: ran.append("main"))
    monkeypatch.setattr(host_memory if amid != "main" else train, amid, signalled)
    assert console.train() == code
    assert "main" not in ran
    assert "stopped before the run began" in capsys.readouterr().err
    signal.raise_signal(signal.SIGTERM)  # amid the end: does not change the exit code


def test_sigterm_while_the_command_imports_jax(tmp_path):
    """In a process of its own, at the moment when the import of JAX begins."""
    script = """
import os, runpy, signal, sys
class Finder:
    def find_spec(name, path=None, target=None):
        if name == "jax":
            print("begun", flush=True)
            signal.raise_signal(signal.SIGTERM)
sys.meta_path.insert(0, Finder)
sys.argv = [sys.argv[1], "configs/none.py"]
sys.path.insert(0, os.path.dirname(sys.argv[0]))
runpy.run_path(sys.argv[0], run_name="__main__")
"""
    train_py = str(PROJECT.with_name("train.py"))
    ended = subprocess.run(
        [sys.executable, "-c", script, train_py], cwd=tmp_path, check=False, text=True,
        capture_output=True,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout) == (0, "begun\n"), ended.stderr
    assert "stopped before the run began" in ended.stderr


def test_entry_points_exist():
    if not PROJECT.is_file():
        pytest.skip("no pyproject.toml beside the tests")
    scripts = tomllib.loads(PROJECT.read_text())["project"]["scripts"]
    assert {"tttlrm-train", "tttlrm-eval"} <= set(scripts)
    for target in scripts.values():
        module, name = target.split(":")
        assert callable(getattr(importlib.import_module(module), name))
