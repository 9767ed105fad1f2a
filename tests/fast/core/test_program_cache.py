"""Programs that commands keep: where, how many, and what never stops a run."""

import os
import subprocess
import sys

import pytest

from tttlrm_jax.core.program_cache import keep_programs, processor, trim, user_cache

COMPILE = """
import sys
from tttlrm_jax.core.program_cache import keep_programs
folder = keep_programs()
import jax, jax.monitoring
hits = []
jax.monitoring.register_event_listener(lambda name, **_: hits.append(name))
assert float(jax.jit(lambda x: x + 1)(1.0)) == 2.0
print(folder, sum(name.endswith("cache_hits") for name in hits))
"""


def run(cache, **environment):
    kept = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    made = subprocess.run(
        [sys.executable, "-c", COMPILE], env=kept | {"XDG_CACHE_HOME": str(cache), **environment},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert made.stderr == ""
    return made.stdout.split()


@pytest.mark.skipif(sys.platform != "linux", reason="XDG_CACHE_HOME is Linux's")
def test_a_second_run_takes_what_the_first_compiled(tmp_path):
    folder, hits = run(tmp_path)
    assert hits == "0"
    assert folder == str(tmp_path / "tttlrm-jax" / f"programs-{processor()}")
    assert run(tmp_path)[1] != "0"
    for entry in os.scandir(folder):
        if entry.name.endswith("-cache"):
            with open(entry, "wb") as file:
                file.write(b"no program")
    assert run(tmp_path) == [folder, "0"]  # compiled again, without a word


@pytest.mark.skipif(sys.platform != "linux", reason="XDG_CACHE_HOME is Linux's")
def test_what_cannot_be_kept_is_not(tmp_path):
    (tmp_path / "file").write_text("")
    assert run(tmp_path / "file") == ["None", "0"]  # no folder can be there


def test_the_users_own_cache_stays(tmp_path, monkeypatch):
    """Tests run with one, from the environment."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert keep_programs() is None
    assert list(tmp_path.iterdir()) == []


def test_what_was_used_longest_ago_goes_first(tmp_path):
    for age, name in enumerate(("new", "old", "oldest")):
        path = tmp_path / name
        path.write_bytes(bytes(100))
        os.utime(path, (1e9 - age, 1e9 - age))
    trim(tmp_path, 300)
    assert len(list(tmp_path.iterdir())) == 3
    trim(tmp_path, 250)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "old"]
    trim(tmp_path, 0)
    assert list(tmp_path.iterdir()) == []


def test_every_system_has_a_place(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    monkeypatch.setattr(sys, "platform", "linux")
    assert user_cache() == tmp_path
    monkeypatch.setattr(sys, "platform", "win32")
    assert user_cache() == tmp_path / "local"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert user_cache().parts[-2:] == ("Library", "Caches")
