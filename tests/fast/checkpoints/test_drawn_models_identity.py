"""Runs know the models that their scenes show by content: moved ones are taken, others refused."""

import dataclasses
import shutil

import pytest

from tests.gltf import write_models
from tttlrm_jax.checkpoints.directories import CHECKPOINTS, PARAMS
from tttlrm_jax.checkpoints.drawn_models_identity import (
    DRAWN_MODELS_FILE,
    record_drawn_models,
)
from tttlrm_jax.checkpoints.provenance import provenance
from tttlrm_jax.config import DataConfig, RunConfig, SyntheticConfig
from tttlrm_jax.core.errors import ConfigError, InputError
from tttlrm_jax.training.run_directory import changes_since, write_run_directory


def showing(archive) -> RunConfig:
    scenes = SyntheticConfig(generator="models", models=(str(archive),), models_credit="Me, CC0")
    return RunConfig(name="x", data=DataConfig(synthetic=scenes))


def test_moved_models_are_taken_and_others_refused(tmp_path):
    archive, run = write_models(tmp_path / "m.zip"), tmp_path / "run"
    write_run_directory(run, showing(archive))
    record_drawn_models(run, showing(archive).data)
    (run / CHECKPOINTS / "2" / PARAMS).mkdir(parents=True)
    assert changes_since(run, showing(archive)) == []
    moved = shutil.copy(archive, tmp_path / "moved.zip")
    (said,) = changes_since(run, showing(moved))
    assert said.startswith("data.synthetic.models was")
    write_models(archive, count=2)
    with pytest.raises(ConfigError, match=r"data\.synthetic\.models=.* holds other models"):
        changes_since(run, showing(archive))
    config = showing(archive)
    data = dataclasses.replace(config.data, changed_scenes="go_on")
    said = changes_since(run, dataclasses.replace(config, data=data))
    assert said[0].startswith("WARNING: going on with other data: ")
    (run / DRAWN_MODELS_FILE).write_text("{")
    with pytest.raises(InputError, match=r"drawn_models\.json cannot be read"):
        changes_since(run, showing(archive))


def test_model_directories_say_whose_models_weights_have_seen(tmp_path):
    said = provenance(showing(write_models(tmp_path / "m.zip")))
    assert "scenes of models (m.zip; Me, CC0)" in said
