"""What a model directory says: of the model and its data everything, of the machine nothing."""

import dataclasses
import json

import pytest

from tttlrm_jax.apps.export_model import main as export_main
from tttlrm_jax.checkpoints.directories import read_config
from tttlrm_jax.checkpoints.models import export_model, load_model
from tttlrm_jax.checkpoints.provenance import HOST_CHOICES, provenance
from tttlrm_jax.config import MeshConfig, RasterConfig, RunConfig
from tttlrm_jax.core.packaged_files import packaged
from tttlrm_jax.models import build_model, split_model


def host_choices_in(directory) -> list[str]:
    values = json.loads((directory / "config.json").read_text())
    return [
        f"{part}.{name}"
        for part, fields in HOST_CHOICES.items()
        for name in values.get(part, {})
        if fields is None or name in fields
    ]


@pytest.mark.parametrize("name", ["quickstart", "ttt3r_small"])
def test_shipped_models_leave_the_machine_to_its_user(name):
    assert host_choices_in(packaged(name)) == []
    assert json.loads((packaged(name) / "config.json").read_text())["provenance"]


def test_the_shipped_weights_say_that_they_have_seen_furniture():
    config = read_config(packaged("quickstart"))
    assert config.raster.backend == "auto"
    assert "furniture" in provenance(config)


@pytest.fixture(scope="module")
def chosen(tiny_run) -> RunConfig:
    """A run with choices of its machine."""
    return dataclasses.replace(
        tiny_run,
        raster=RasterConfig(backend="tiled", near=0.2),
        data=dataclasses.replace(tiny_run.data, cache_directory="/somewhere", num_threads=7),
        train=dataclasses.replace(tiny_run.train, directory="/elsewhere", init_from="/before"),
        mesh=MeshConfig(seq=2),
    )


def test_what_a_machine_chose_is_not_exported(tmp_path, chosen):
    params = split_model(build_model(chosen.model))[1]
    directory = export_model(chosen, params, tmp_path / "model")
    assert host_choices_in(directory) == []
    config, _ = load_model(directory)
    assert config.mesh == MeshConfig()
    assert config.raster == RasterConfig(near=0.2)
    assert config.provenance == provenance(chosen)
    assert "32x32 pixels with 3 input views" in config.provenance


def test_older_model_directories_are_read_without_these_choices(tmp_path, chosen):
    params = split_model(build_model(chosen.model))[1]
    directory = export_model(chosen, params, tmp_path / "model")
    values = json.loads((directory / "config.json").read_text())
    values["raster"]["backend"] = "tiled"
    values["mesh"] = {"seq": 4}
    (directory / "config.json").write_text(json.dumps(values))
    config = read_config(directory)
    assert (config.raster.backend, config.mesh) == ("auto", MeshConfig())


def test_a_provenance_of_ones_own_is_kept(tmp_path, chosen):
    own = dataclasses.replace(chosen, provenance="two sofas")
    params = split_model(build_model(own.model))[1]
    directory = export_model(own, params, tmp_path / "model")
    assert export_main(["--run", str(directory), "--dest", str(tmp_path / "copy")]) == 0
    assert read_config(tmp_path / "copy").provenance == "two sofas"
