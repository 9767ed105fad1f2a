"""Runs know their captures by cameras and pictures: copies are taken, edited ones refused."""

import dataclasses
import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from tttlrm_jax.captures.camera_files import write_opencv_capture
from tttlrm_jax.checkpoints.capture_identity import (
    CAPTURES_FILE,
    changed_captures,
    record_captures,
)
from tttlrm_jax.checkpoints.directories import CHECKPOINTS, PARAMS
from tttlrm_jax.config import DataConfig, LossConfig, RunConfig
from tttlrm_jax.core.errors import ConfigError, InputError
from tttlrm_jax.training.run_directory import changes_since, write_run_directory

LENS = np.array([8.0, 8.0, 4.0, 4.0])


def reading(*directories, **data) -> RunConfig:
    places = tuple(map(str, directories))
    data = DataConfig(
        source="captures", capture_directories=places, num_input_views=1, num_target_views=1, **data
    )
    return RunConfig(name="x", data=data, loss=LossConfig(depth=0.0))


@pytest.fixture
def begun(tmp_path):
    """(directory of a run that has a checkpoint, its two captures)."""
    rng = np.random.default_rng(0)
    captures = [tmp_path / "data" / name for name in ("garden", "kitchen")]
    for directory in captures:
        images = rng.integers(0, 256, (3, 8, 8, 3), np.uint8)
        write_opencv_capture(
            directory, images, np.tile(np.eye(4), (3, 1, 1)), np.tile(LENS, (3, 1))
        )
    run = tmp_path / "run"
    write_run_directory(run, reading(*captures))
    record_captures(run, reading(*captures).data)
    (run / CHECKPOINTS / "2" / PARAMS).mkdir(parents=True)
    return run, captures


def test_copies_with_other_times_are_taken(begun, tmp_path):
    run, captures = begun
    assert changes_since(run, reading(*captures)) == []
    copies = [tmp_path / "copies" / path.name for path in captures]
    for path, copy in zip(captures, copies, strict=True):
        shutil.copytree(path, copy)
        for file in copy.rglob("*"):
            os.utime(file, (1, 1))
    (said,) = changes_since(run, reading(*copies))
    assert said.startswith("data.capture_directories was ")
    with pytest.raises(ConfigError, match=r"data\.holdout_every=5"):  # all else still binds
        changes_since(run, reading(*copies, holdout_every=5))
    shutil.rmtree(tmp_path / "data")
    assert changes_since(run, reading(*captures)) == []  # a stage that has ended needs them not


def repainted(directory):
    picture = directory / "images" / "000001.png"
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(picture)


def moved(directory):
    path = directory / "opencv_cameras.json"
    document = json.loads(path.read_text())
    document["frames"][2]["w2c"][0][3] += 0.25
    path.write_text(json.dumps(document))


def shortened(directory):
    path = directory / "opencv_cameras.json"
    document = json.loads(path.read_text())
    del document["frames"][2]
    path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (repainted, "kitchen has other pictures"),
        (moved, "kitchen has other cameras"),
        (shortened, r"kitchen has 2 frames \(was 3\)"),
    ],
)
def test_edited_captures_are_refused_unless_told_to_go_on(begun, edit, said):
    run, captures = begun
    edit(captures[1])
    with pytest.raises(ConfigError, match=f"was started with: {said}; name the place"):
        changes_since(run, reading(*captures))
    going_on = reading(*captures, changed_scenes="go_on")
    assert changes_since(run, going_on)[0].startswith("WARNING: going on with other data: kitchen")
    record_captures(run, going_on.data)  # as the run does that goes on
    assert changes_since(run, reading(*captures)) == []


def test_other_captures_are_named(begun):
    run, (garden, kitchen) = begun
    with pytest.raises(ConfigError, match="was started with: without garden"):
        changes_since(run, reading(kitchen))
    with pytest.raises(ConfigError, match="the same captures in another order"):
        changes_since(run, reading(kitchen, garden))
    with pytest.raises(ConfigError, match="with garden besides"):
        changes_since(
            run, reading(garden, kitchen, shutil.copytree(garden, garden.parent / "attic"))
        )


def test_masks_and_disparity_count_where_they_are_read(begun):
    run, captures = begun
    (captures[0] / "masks").mkdir()
    Image.fromarray(np.full((8, 8), 255, np.uint8)).save(captures[0] / "masks" / "000000.png")
    assert changed_captures(run, reading(*captures).data) == ["garden has other pictures"]
    with pytest.raises(InputError, match=r"disparity.*cannot be read"):
        changed_captures(run, reading(*captures, capture_depth=True).data)


def test_runs_that_kept_no_record_go_on_at_the_same_place_only(begun, tmp_path):
    run, captures = begun
    (run / CAPTURES_FILE).unlink()
    assert changes_since(run, reading(*captures)) == []
    away = [shutil.copytree(path, tmp_path / "away" / path.name) for path in captures]
    with pytest.raises(ConfigError, match=r"data\.capture_directories=.*\(was"):
        changes_since(run, reading(*away))
    assert changes_since(run, reading(*away, changed_scenes="go_on"))
    (run / CAPTURES_FILE).write_text('{"captures": [{}]}')
    with pytest.raises(InputError, match=r"captures\.json cannot be read"):
        changes_since(run, dataclasses.replace(reading(*captures)))
