"""Damaged, unwritable and full: what checkpoints do when the disk does not."""

import os
import resource
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from tttlrm_jax.checkpoints import runs as checkpoint
from tttlrm_jax.checkpoints.arrays import DamagedCheckpoint
from tttlrm_jax.checkpoints.checks import fingerprints
from tttlrm_jax.checkpoints.runs import RunCheckpoints
from tttlrm_jax.checkpoints.train_state import TrainState
from tttlrm_jax.core.arrays import on_device
from tttlrm_jax.core.errors import InputError


def state_at(step: int) -> TrainState:
    values = on_device(np.random.default_rng(step).normal(size=(64, 64)), np.float32)
    return TrainState(
        step=jnp.asarray(step), params={"w": values}, opt_state=(values * 2,),
        num_skipped=jnp.asarray(0),
    )  # fmt: skip


@pytest.fixture
def two_saved(tmp_path) -> Path:
    """A run directory with whole checkpoints at steps 1 and 2."""
    checkpoints = RunCheckpoints(tmp_path, keep=3)
    for step in (1, 2):
        checkpoints.save(state_at(step), {"next_index": step})
        checkpoints.wait()
    checkpoints.close()
    return tmp_path


def save_and_wait(checkpoints: RunCheckpoints, step: int) -> None:
    checkpoints.save(state_at(step), {"next_index": step})
    checkpoints.wait()


def largest_files(directory: Path) -> list[Path]:
    files = [path for path in directory.rglob("*") if path.is_file()]
    return sorted(files, key=lambda path: -path.stat().st_size)


def flip_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(content)


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize("harm", [flip_bit, truncate])
def test_the_one_before_a_damaged_checkpoint_is_used_loudly(two_saved, harm):
    newest = two_saved / "checkpoints" / "2"
    for path in largest_files(newest / "params")[:1]:
        harm(path)
    checkpoints = RunCheckpoints(two_saved, keep=3)
    state, data_state, said = checkpoints.restore_newest(state_at(0))
    checkpoints.save(state_at(2), {"next_index": 2})  # the number is free again
    checkpoints.wait()
    assert checkpoints.restore(2, state_at(0))[1] == {"next_index": 2}
    checkpoints.close()
    assert int(state.step) == 1
    assert data_state == {"next_index": 1}
    np.testing.assert_array_equal(state.params["w"], state_at(1).params["w"])
    assert said[0].startswith("WARNING: checkpoint=")
    assert str(newest) in said[0]
    assert said[1] == f"resumed {two_saved} at step 1"
    assert (two_saved / "damaged" / "2").is_dir()


def test_what_another_process_cannot_read_is_damaged_here_too(two_saved, monkeypatch):
    """The other process, whose part of the newest checkpoint is broken, is played."""
    answers = iter([1, 0])
    monkeypatch.setattr(checkpoint, "largest_of_processes", lambda own: max(own, next(answers)))
    checkpoints = RunCheckpoints(two_saved, keep=3)
    state, _, said = checkpoints.restore_newest(state_at(0))
    checkpoints.close()
    assert int(state.step) == 1
    assert "another process cannot read its part" in said[0]
    assert (two_saved / "damaged" / "2").is_dir()


def test_altered_record_of_the_data_is_noticed(two_saved):
    files = [path for path in (two_saved / "checkpoints/2/data").rglob("*") if path.is_file()]
    (record,) = (path for path in files if "next_index" in path.read_text())
    record.write_text(record.read_text().replace('"next_index": 2', '"next_index": 3'))
    assert '"next_index": 3' in record.read_text()
    checkpoints = RunCheckpoints(two_saved, keep=3)
    with pytest.raises(DamagedCheckpoint, match="record of the data"):
        checkpoints.restore(2, state_at(0))
    checkpoints.close()


def test_nothing_but_damaged_checkpoints_is_an_error(two_saved):
    for step in (1, 2):
        truncate(largest_files(two_saved / "checkpoints" / str(step) / "params")[0])
    checkpoints = RunCheckpoints(two_saved, keep=3)
    with pytest.raises(DamagedCheckpoint, match="there is none before it"):
        checkpoints.restore_newest(state_at(0))
    checkpoints.close()


def test_full_disk_is_one_sentence_and_harms_no_earlier_checkpoint(two_saved):
    """A limit on file size stands in for a full disk: writing fails midway."""
    checkpoints = RunCheckpoints(two_saved, keep=3)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(InputError, match=r"takes no checkpoint \(.*; free space"):
            save_and_wait(checkpoints, 3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    again = RunCheckpoints(two_saved, keep=3)
    state, _, said = again.restore_newest(state_at(0))
    again.close()
    assert int(state.step) == 2
    assert len(said) == 1


def test_fingerprints_see_every_bit():
    values = np.random.default_rng(0).normal(size=(3, 5, 7)).astype(np.float32)
    before = fingerprints({"x": jnp.asarray(values), "flag": jnp.asarray([True, False])})
    for place in (0, 17, 104):
        for bit in (0, 13, 31):
            words = values.copy().view(np.uint32)
            words.reshape(-1)[place] ^= np.uint32(1 << bit)
            changed = {"x": on_device(words.view(np.float32)), "flag": jnp.asarray([True, False])}
            assert fingerprints(changed) != before
    swapped = fingerprints({"x": jnp.asarray(values[::-1]), "flag": jnp.asarray([True, False])})
    assert swapped != before
    narrow = fingerprints({"x": jnp.asarray(values, jnp.bfloat16)})
    assert narrow != fingerprints({"x": jnp.asarray(values + 0.1, jnp.bfloat16)})
