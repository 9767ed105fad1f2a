"""Runs know their shards by content: moved ones are taken, others refused."""

import dataclasses

import pytest

from tttlrm_jax.checkpoints.directories import CHECKPOINTS, PARAMS
from tttlrm_jax.checkpoints.shard_identity import SHARDS_FILE, changed_shards, record_shards
from tttlrm_jax.config import DataConfig, LossConfig, RunConfig, SyntheticConfig
from tttlrm_jax.core.errors import ConfigError, InputError
from tttlrm_jax.datasets.shards.builder import write_shards
from tttlrm_jax.datasets.shards.records import synthetic_records
from tttlrm_jax.training.run_directory import changes_since, write_run_directory

SCENES = SyntheticConfig(num_scenes=1, num_views=4, height=8, width=8, supersampling=1)


def reading(directory) -> RunConfig:
    data = DataConfig(source="shards", shard_directory=str(directory), num_input_views=1)
    return RunConfig(name="x", data=data, loss=LossConfig(depth=0.0))


@pytest.fixture
def begun(tmp_path):
    """(directory of a run that has a checkpoint, its shards)."""
    shards = write_shards(tmp_path / "first", {"train": synthetic_records(SCENES)}, progress=False)
    run = tmp_path / "run"
    write_run_directory(run, reading(shards))
    record_shards(run, reading(shards).data)
    (run / CHECKPOINTS / "2" / PARAMS).mkdir(parents=True)
    return run, shards


def test_moved_shards_are_taken(begun, tmp_path):
    run, shards = begun
    assert changes_since(run, reading(shards)) == []
    moved = shards.rename(tmp_path / "moved")
    (said,) = changes_since(run, reading(moved))
    assert said.startswith(f"data.shard_directory was {shards}, is now {moved}")
    data = dataclasses.replace(reading(moved).data, holdout_every=5)
    with pytest.raises(ConfigError, match=r"data\.holdout_every=5"):  # all else still binds
        changes_since(run, dataclasses.replace(reading(moved), data=data))
    assert changes_since(run, reading(shards)) == []  # a stage that has ended needs its shards not
    with pytest.raises(InputError, match=r"data\.shard_directory=.*absent holds no shards"):
        changes_since(run, reading(tmp_path / "absent"))


def test_other_shards_are_refused_also_at_the_same_place(begun, tmp_path):
    run, shards = begun
    scenes = dataclasses.replace(SCENES, seed=1)
    other = write_shards(tmp_path / "other", {"train": synthetic_records(scenes)}, progress=False)
    with pytest.raises(ConfigError, match=r"was started with: .* holds other shards"):
        changes_since(run, reading(other))
    shards.rename(tmp_path / "away")
    other.rename(shards)
    with pytest.raises(ConfigError, match=r"was started with: .* holds other shards"):
        changes_since(run, reading(shards))
    data = dataclasses.replace(reading(shards).data, changed_scenes="go_on")
    said = changes_since(run, dataclasses.replace(reading(shards), data=data))
    assert said[0] == f"WARNING: going on with other data: {shards} holds other shards"


def test_runs_that_kept_no_fingerprint_go_on_at_the_same_path_only(begun, tmp_path):
    run, shards = begun
    (run / SHARDS_FILE).unlink()
    assert changed_shards(run, reading(shards).data) is None
    assert changes_since(run, reading(shards)) == []
    moved = shards.rename(tmp_path / "moved")
    with pytest.raises(ConfigError, match=r"data\.shard_directory=.*moved \(was"):
        changes_since(run, reading(moved))
    (run / SHARDS_FILE).write_text("{")
    with pytest.raises(InputError, match=r"shards\.json cannot be read"):
        changes_since(run, reading(moved))
