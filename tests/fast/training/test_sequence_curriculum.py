"""Training on sequences has what other runs have: averaged weights, stages, previews."""

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from tttlrm_jax.apps.train import load_config_file
from tttlrm_jax.checkpoints.directories import CHECKPOINTS, CONFIG_FILE, PARAMS, read_config_values
from tttlrm_jax.checkpoints.models import load_ttt3r
from tttlrm_jax.checkpoints.runs import RunCheckpoints
from tttlrm_jax.config.run import CurriculumConfig, SequenceRunConfig
from tttlrm_jax.core.errors import ConfigError
from tttlrm_jax.models import split_model
from tttlrm_jax.training.curriculum import placed_stages, train_curriculum
from tttlrm_jax.training.optimizer import moved_average
from tttlrm_jax.training.run_directory import changes_since, run_directory, write_run_directory
from tttlrm_jax.training.tasks.sequences import fresh_state

RUNS = Path(__file__).resolve().parents[2] / "runs"
DECAY = 0.25  # below (1 + n) / (10 + n) from the second step on


@pytest.fixture(scope="module")
def config() -> SequenceRunConfig:
    config = load_config_file(RUNS / "tiny_sequence_run.py")
    assert isinstance(config, SequenceRunConfig)
    return config


@pytest.fixture(scope="module")
def stages(tmp_path_factory, config) -> list:
    """Two stages as they were trained, the same but for what they start from."""
    settings = dataclasses.replace(
        config.train, num_steps=3, eval_every=3, checkpoint_every=1, keep_checkpoints=3,
        ema_decay=DECAY, directory=str(tmp_path_factory.mktemp("runs")),
    )  # fmt: skip
    stage = dataclasses.replace(config, train=settings)
    curriculum = CurriculumConfig(name="both", stages=(stage, stage))
    assert train_curriculum(curriculum).finished
    return placed_stages(curriculum)


def restored(stage: SequenceRunConfig, *steps: int) -> list:
    """The states of a run after so many steps."""
    like = fresh_state(stage, resumes=True)[1]
    checkpoints = RunCheckpoints(run_directory(stage), keep=3)
    states = [checkpoints.restore(step, like)[0] for step in steps]
    checkpoints.close()
    return states


def loaded(directory: Path) -> dict:
    return split_model(load_ttt3r(directory)[1])[1]


def assert_close(ours, theirs) -> None:
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


@pytest.mark.extended
def test_averaged_weights_follow_the_steps_and_are_what_a_run_gives(stages):
    """By hand from the weights after every step."""
    average = fresh_state(stages[0], resumes=False)[1].params
    states = restored(stages[0], 1, 2, 3)
    for state in states:
        average = moved_average(average, state.params, state.step, DECAY)
    assert_close(states[-1].ema, average)
    assert_close(loaded(run_directory(stages[0])), average)
    pairs = zip(*map(jax.tree.leaves, (average, states[-1].params)), strict=True)
    assert max(np.abs(a - b).max() for a, b in pairs) > 1e-4  # it is not the last weights


@pytest.mark.extended
def test_a_stage_starts_from_the_averaged_weights_of_the_one_before(stages):
    """Its first step has a learning rate of 0."""
    assert_close(restored(stages[1], 1)[0].params, loaded(run_directory(stages[0])))


@pytest.mark.extended
def test_previews_show_frames_beside_true_and_predicted_depth(stages):
    height, width = stages[0].room.height, stages[0].room.width
    for stage in stages:
        with Image.open(run_directory(stage) / "previews" / "00000003.png") as picture:
            assert picture.size == (2 * width + 4 + 2 * (2 * width + 4), height)
            shown = np.asarray(picture)
        first = 2 * width + 4
        true = np.stack([shown[:, x : x + width] for x in (first, 2 * first)])
        np.testing.assert_array_equal(true[..., 0], true[..., 1])  # grey
        assert true.max() == 255
        assert true.std() > 1


def test_stages_are_of_one_kind(config):
    other = load_config_file(RUNS / "tiny_run.py")
    with pytest.raises(ConfigError, match="are of several kinds"):
        CurriculumConfig(name="mixed", stages=(config, other))  # type: ignore[arg-type]


def test_a_run_of_another_kind_and_other_settings_are_refused(config, tmp_path):
    first, directory = config, tmp_path / "run"
    write_run_directory(directory, first)
    (directory / CHECKPOINTS / "2" / PARAMS).mkdir(parents=True)
    mesh = dataclasses.replace(first.mesh, data=2)
    assert changes_since(directory, dataclasses.replace(first, mesh=mesh)) == [
        "mesh.data was 1, is now 2"
    ]
    values = read_config_values(directory)  # as older versions wrote it
    del values["mesh"], values["train"]["ema_decay"], values["train"]["init_moments"]
    (directory / CONFIG_FILE).write_text(json.dumps(values))
    assert changes_since(directory, first) == []
    told = dataclasses.replace(first, provenance="two rooms")
    assert changes_since(directory, told) == ["provenance was not recorded, is now two rooms"]
    room = dataclasses.replace(first.room, compass=True)
    with pytest.raises(ConfigError, match=r"room\.compass=True \(was False\)"):
        changes_since(directory, dataclasses.replace(first, room=room))
    with pytest.raises(ConfigError, match=r"another kind: model\.kind=ttt3r"):
        changes_since(directory, load_config_file(RUNS / "tiny_run.py"))


def test_views_of_a_sequence_are_not_parted(config):
    with pytest.raises(ConfigError, match=r"mesh\.seq=2 parts views"):
        dataclasses.replace(config, mesh=dataclasses.replace(config.mesh, seq=2))
