"""The installed commands run the mains of train.py and eval.py and keep freed memory."""

import importlib
import tomllib
from pathlib import Path

import pytest

from tttlrm_jax.commands import console

PROJECT = Path(__file__).parents[3] / "pyproject.toml"


@pytest.mark.parametrize("name", ["train", "evaluate"])
def test_commands_keep_memory_and_return_the_exit_code(monkeypatch, name):
    calls = []
    monkeypatch.setattr(console, "keep_freed_memory", lambda: calls.append("kept"))
    monkeypatch.setattr(console, f"{name}_main", lambda: calls.append("ran") or 7)
    assert getattr(console, name)() == 7
    assert calls == ["kept", "ran"]


def test_entry_points_exist():
    if not PROJECT.is_file():
        pytest.skip("no pyproject.toml beside the tests")
    scripts = tomllib.loads(PROJECT.read_text())["project"]["scripts"]
    assert {"tttlrm-train", "tttlrm-eval"} <= set(scripts)
    for target in scripts.values():
        module, name = target.split(":")
        assert callable(getattr(importlib.import_module(module), name))
