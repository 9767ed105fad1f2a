"""The installed commands run the mains of train.py and eval.py and keep freed memory."""

import contextlib
import importlib
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tttlrm_jax.apps import console, train
from tttlrm_jax.apps.reconstruct import command as evaluate
from tttlrm_jax.config.command_line import EXIT_INTERRUPTED
from tttlrm_jax.core import host_memory
from tttlrm_jax.training.trainer import RunResult

PROJECT = Path(__file__).parents[3] / "pyproject.toml"
SMOKE = PROJECT.with_name("configs") / "smoke.py"
MAINS = {"train": train, "evaluate": evaluate}


@pytest.fixture(autouse=True)
def _signals():
    """Commands leave signals ignored, as the process is to end."""
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    yield
    for each, handler in before.items():
        signal.signal(each, handler)


@pytest.mark.parametrize("name", ["train", "evaluate"])
def test_commands_keep_memory_and_return_the_exit_code(monkeypatch, name):
    calls = []
    monkeypatch.setattr(host_memory, "keep_freed_memory", lambda: calls.append("kept"))
    monkeypatch.setattr(MAINS[name], "main", lambda **_: calls.append("ran") or 7)
    assert getattr(console, name)() == 7
    assert calls == ["kept", "ran"]


def signal_amid(monkeypatch, owner, name: str) -> None:
    """SIGTERM when a function is first called."""
    original, calls = getattr(owner, name, print), []

    def signalled(*arguments, **named):
        calls.append(name)
        if len(calls) == 1:
            signal.raise_signal(signal.SIGTERM)
        return original(*arguments, **named)

    monkeypatch.setattr(owner, name, signalled, raising=name != "print")


@pytest.mark.parametrize(("wanted", "code"), [("0", 0), ("75", 75), ("many", 2)])
@pytest.mark.parametrize("amid", ["keep_freed_memory", "unfinished_exit", "parse"])
def test_sigterm_before_the_run_ends_the_command(monkeypatch, capsys, amid, wanted, code):
    """Noted while modules are imported and set up, raised at once while processes are met."""
    monkeypatch.setenv("TTTLRM_UNFINISHED_EXIT", wanted)
    monkeypatch.setattr(host_memory, "keep_freed_memory", lambda: None)
    monkeypatch.setattr(train, "parse", lambda arguments: pytest.fail("parsed"))
    signal_amid(monkeypatch, host_memory if amid == "keep_freed_memory" else train, amid)
    assert console.train() == code
    said = capsys.readouterr().err
    start = "error: TTTLRM_UNFINISHED_EXIT=many" if code == 2 else "stopped before the run began"
    assert said.startswith(start)
    assert said.count("\n") == 1
    signal.raise_signal(signal.SIGTERM)  # amid the end: does not change the exit code


@pytest.mark.parametrize(("finished", "code"), [(True, 0), (False, 75)])
@pytest.mark.parametrize("amid", ["train", "print"])
def test_sigterm_after_the_run_changes_nothing(monkeypatch, capsys, amid, finished, code):
    """Between the end of its steps and that of the command."""
    result = RunResult(3, None, finished, None, Path("runs/x"))
    monkeypatch.setenv("TTTLRM_UNFINISHED_EXIT", "75")
    monkeypatch.setattr(host_memory, "keep_freed_memory", lambda: None)
    monkeypatch.setattr(sys, "argv", ["train.py", str(SMOKE)])
    monkeypatch.setattr(train, "train", lambda config, stop: result)
    signal_amid(monkeypatch, train, amid)
    assert console.train() == code
    said = capsys.readouterr()
    assert f"{'finished' if finished else 'saved'} runs/x at step 3" in said.out
    assert said.err == ""


def test_a_swallowed_signal_is_known_to_the_run(monkeypatch):
    """Where an exception is lost, as in a callback, the run still stops before its first step."""

    def parsed(arguments):
        with contextlib.suppress(BaseException):
            signal.raise_signal(signal.SIGTERM)
        return config

    def trained(config, stop):
        seen.append(stop.signal)
        return RunResult(0, stop.signal, False, None, Path("runs/x"))

    seen = []
    config = train.load_config_file(SMOKE)
    monkeypatch.setattr(train, "parse", parsed)
    monkeypatch.setattr(train, "train", trained)
    monkeypatch.setenv("TTTLRM_UNFINISHED_EXIT", "75")
    assert train.main([]) == 75
    assert seen == [signal.SIGTERM]


def test_a_second_signal_ends_one_of_several_processes_at_once(monkeypatch, capsys):
    """Leaving in order would wait for the others."""

    def interrupted(config, stop):
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)

    def at_once(code):
        raise SystemExit(f"at once {code}")

    monkeypatch.setattr(train, "train", interrupted)
    assert train.main([str(SMOKE)]) == 130
    monkeypatch.setattr(train.jax.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(train, "init_distributed", lambda *_, **__: None)
    monkeypatch.setattr(train.os, "_exit", at_once)
    with pytest.raises(SystemExit, match="at once 130"):
        train.main([str(SMOKE)])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_processes_meet_is_told_by_its_code(monkeypatch, number):
    monkeypatch.setenv("TTTLRM_UNFINISHED_EXIT", "75")
    monkeypatch.setattr(train, "init_distributed", lambda *_, **__: signal.raise_signal(number))
    monkeypatch.setattr(train, "train", lambda config, stop: pytest.fail("the run began"))
    assert train.main([str(SMOKE)]) == (130 if number == signal.SIGINT else 75)


@pytest.mark.extended
@pytest.mark.parametrize(
    ("program", "module", "number", "code", "said"),
    [
        ("train.py", "tyro", signal.SIGTERM, 0, "stopped before the run began"),
        ("train.py", "jax", signal.SIGTERM, 0, "stopped before the run began"),
        ("eval.py", "jax", signal.SIGINT, 130, "interrupted; nothing was written\n"),
        ("eval.py", "tyro", signal.SIGTERM, 130, "interrupted; nothing was written\n"),
    ],
)
def test_signals_while_a_command_imports(tmp_path, program, module, number, code, said):
    """In a process of its own, at the moment when the import of a large module begins."""
    script = """
import os, runpy, signal, sys
program, module, number = sys.argv[1], sys.argv[2], int(sys.argv[3])
class Finder:
    def find_spec(name, path=None, target=None):
        if name == module:
            print("begun", flush=True)
            signal.raise_signal(number)
sys.meta_path.insert(0, Finder)
sys.argv = [program, "configs/none.py", module]
sys.path.insert(0, os.path.dirname(sys.argv[0]))
signal.signal(signal.SIGINT, signal.default_int_handler)  # it may be ignored in the background
runpy.run_path(sys.argv[0], run_name="__main__")
"""
    path = str(PROJECT.with_name(program))
    ended = subprocess.run(
        [sys.executable, "-c", script, path, module, str(int(number))], cwd=tmp_path, check=False,
        text=True, capture_output=True,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout) == (code, "begun\n"), ended.stderr
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_exit_code_of_an_interruption(monkeypatch):
    """Python's own end is not waited for: threads of JAX may be at work."""
    ended = []
    monkeypatch.setattr(host_memory, "keep_freed_memory", lambda: None)
    monkeypatch.setattr(evaluate, "main", lambda **_: EXIT_INTERRUPTED)
    monkeypatch.setattr(console.os, "_exit", ended.append)
    console.evaluate()
    assert ended == [EXIT_INTERRUPTED]


def test_entry_points_exist():
    if not PROJECT.is_file():
        pytest.skip("no pyproject.toml beside the tests")
    scripts = tomllib.loads(PROJECT.read_text())["project"]["scripts"]
    assert {"tttlrm-train", "tttlrm-eval"} <= set(scripts)
    for target in scripts.values():
        module, name = target.split(":")
        assert callable(getattr(importlib.import_module(module), name))
