"""A run whose directory turns out to be read-only: one sentence, exit code 2, nothing lost.

The processes give up the right of root to write where permissions forbid it, so that the operating
system itself refuses.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import pytest

from tttlrm_jax.apps.train import main
from tttlrm_jax.checkpoints.models import load_model
from tttlrm_jax.models import split_model

ROOT = Path(__file__).resolve().parents[3]
TINY = ROOT / "tests" / "runs" / "tiny_run.py"
# Programs that this process goes on as are bound by permissions. The numbers are PR_CAPBSET_DROP,
# CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH of Linux.
GIVE_UP_OVERRIDE = """
import ctypes, os, sys
for capability in (1, 2):
    ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
TWO_SAVED = """
import json, sys
from pathlib import Path
import jax.numpy as jnp
from tttlrm_jax.apps.train import main
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.checkpoints.runs import RunCheckpoints
from tttlrm_jax.checkpoints.train_state import TrainState

def state_at(step):
    values = jnp.full((64, 64), step, jnp.float32)
    return TrainState(step=jnp.asarray(step), params={"w": values}, opt_state=(values,),
                      num_skipped=jnp.asarray(0))

directory, locked, *arguments = sys.argv[1:]
checkpoints = RunCheckpoints(Path(directory), keep=3)
for step in (1, 2):
    checkpoints.save(state_at(step), {"next_index": step})
    checkpoints.wait()
Path(locked).chmod(0o555)
try:
    (Path(locked) / "probe").write_text("")
    raise SystemExit("permissions do not bind this process")
except PermissionError:
    pass
said = None
try:
    checkpoints.save(state_at(3), {"next_index": 3})
    checkpoints.wait()
except InputError as error:
    said = str(error)
code = main(arguments)
again = RunCheckpoints(Path(directory), keep=3)
state, data_state, _ = again.restore_newest(state_at(0))
again.close()
print(json.dumps([said, code, int(state.step), data_state]))
"""


def start(*arguments: str) -> subprocess.Popen:
    """Python with these arguments, bound by permissions, also where the tests run as root."""
    environment = os.environ | {
        "TTTLRM_TYPECHECK": "0",
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
    return subprocess.Popen(
        [sys.executable, "-c", GIVE_UP_OVERRIDE, *arguments], env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


@pytest.fixture
def bound(tmp_path) -> Iterator[Path]:
    """A directory for processes that permissions bind; unlocked again at the end."""
    (tmp_path / "locked").mkdir(mode=0o555)
    probe = start("-c", f"open({str(tmp_path / 'locked' / 'probe')!r}, 'w')")
    _, errors = probe.communicate()
    if "PermissionError" not in errors:
        pytest.skip("this system does not let root give up writing where permissions forbid it")
    yield tmp_path
    for folder in [tmp_path, *(path for path in tmp_path.rglob("*") if path.is_dir())]:
        folder.chmod(0o755)


def contents(directory: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}


def arguments(workspace: Path, *more: str) -> list[str]:
    return [
        str(TINY), "--name", "run", "--train.directory", str(workspace / "runs"),
        "--data.cache-directory", str(workspace / "cache"), *more,
    ]  # fmt: skip


def parameters(directory: Path) -> list[np.ndarray]:
    _, model = load_model(directory)
    return [np.asarray(leaf) for leaf in jax.tree.leaves(split_model(model)[1])]


def test_saves_and_starts_are_refused_and_the_newest_checkpoint_stays(bound):
    directory = bound / "runs" / "run"
    directory.mkdir(parents=True)
    process = start(
        "-c", TWO_SAVED, str(directory), str(directory / "checkpoints"), *arguments(bound)
    )
    out, errors = process.communicate()
    assert process.returncode == 0, errors[-3000:]
    (line,) = out.splitlines()
    said, code, step, data_state = json.loads(line)
    assert "takes no checkpoint" in said
    assert "ermission denied" in said
    assert code == 2
    assert "checkpoints is no writable directory); choose another directory" in errors
    assert "Traceback" not in errors
    assert (step, data_state) == (2, {"next_index": 2})
    assert not (directory / "config.json").exists()  # the refused start wrote nothing


LONG = ("--train.num-steps", "60", "--train.eval-every", "60", "--train.checkpoint-every", "10")


@pytest.fixture(scope="module")
def left_alone(tmp_path_factory) -> list[np.ndarray]:
    """Parameters of the run that nothing locks."""
    workspace = tmp_path_factory.mktemp("alone")
    assert main(arguments(workspace, *LONG)) == 0
    return parameters(workspace / "runs" / "run")


@pytest.mark.timeout(900)
@pytest.mark.parametrize("locked", ["checkpoints", "."])
def test_a_run_that_can_no_longer_save_ends_in_words_and_resumes(bound, left_alone, locked, capfd):
    """Locked after the first checkpoint; unlocked, the run ends as one that was left alone."""
    directory = bound / "runs" / "run"
    process = start(str(ROOT / "train.py"), *arguments(bound, *LONG))
    deadline = time.monotonic() + 400
    while not (directory / "checkpoints" / "10").is_dir():
        assert time.monotonic() < deadline, "no checkpoint appeared"
        assert process.poll() is None, process.communicate()[1][-3000:]
        time.sleep(0.005)
    folders = [directory / locked, directory / "checkpoints"]
    for folder in folders:
        folder.chmod(0o555)
    saved = {path.name: contents(path) for path in (directory / "checkpoints").glob("[0-9]*")}
    _, errors = process.communicate(timeout=400)
    assert process.returncode == 2, errors[-3000:]
    assert "takes no checkpoint" in errors
    assert "Traceback" not in errors
    for step, files in saved.items():
        assert contents(directory / "checkpoints" / step) == files
    for folder in folders:
        folder.chmod(0o755)
    capfd.readouterr()
    assert main(arguments(bound, *LONG)) == 0
    assert f"at step {max(map(int, saved))}" in capfd.readouterr().err
    pairs = zip(parameters(directory), left_alone, strict=True)
    assert all(np.array_equal(ours, theirs) for ours, theirs in pairs)
