"""What a model directory says: of the model and its data everything, of the machine nothing."""

import dataclasses
import json

import pytest

from tttlrm_jax.apps.export_model import main as export_main
from tttlrm_jax.checkpoints.directories import HOST_CHOICES, read_config, write_config
from tttlrm_jax.checkpoints.models import export_model, load_model
from tttlrm_jax.checkpoints.provenance import provenance, provenance_of
from tttlrm_jax.config import LossConfig, MeshConfig, RasterConfig, RunConfig
from tttlrm_jax.core.files.packaged_files import packaged
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


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"source": "captures", "capture_directories": ("/a/garden/", "/b/truck")},
         "captures (garden, truck) at 64x64 pixels"),
        ({"source": "shards", "shard_directory": "/a/shards/furniture"},
         "the packed data set furniture at 64x64 pixels"),
    ],
)  # fmt: skip
def test_data_sets_are_named_without_their_places(tmp_path, chosen, changes, words):
    run = dataclasses.replace(
        chosen,
        data=dataclasses.replace(chosen.data, **changes),
        loss=LossConfig(perceptual=0.5, vgg19_weights="/c/vgg19.npz"),
    )
    directory = export_model(run, split_model(build_model(run.model))[1], tmp_path / "model")
    config = read_config(directory)
    assert words in config.provenance
    assert config.loss.vgg19_weights == "auto"
    assert all(f"/{letter}/" not in (directory / "config.json").read_text() for letter in "abc")


def with_changes(run: RunConfig, name: str, provenance: str = "", **train) -> RunConfig:
    return dataclasses.replace(
        run, name=name, provenance=provenance, train=dataclasses.replace(run.train, **train)
    )


def test_what_earlier_weights_have_seen_is_said_too(tmp_path, tiny_run):
    for name in ("first", "second", "third"):
        (tmp_path / name).mkdir()
    first = with_changes(tiny_run, "first", num_steps=7)
    second = with_changes(tiny_run, "second", num_steps=8, init_from=str(tmp_path / "first"))
    write_config(tmp_path / "first", first)
    write_config(tmp_path / "second", second)
    third = with_changes(tiny_run, "third", init_from=str(tmp_path / "second"))
    parts = provenance(third, steps=5).split("; then ")
    assert [part.split()[-1] for part in parts] == ["first)", "second)", "third)"]
    assert ", 8 steps of" in parts[1]
    assert ", 5 steps of" in parts[2]
    write_config(tmp_path / "second", with_changes(second, "second", "two sofas"))
    assert provenance(third).startswith("two sofas; then ")
    assert provenance_of(tmp_path / "first") == parts[0]
    (tmp_path / "first" / "checkpoints" / "6" / "params").mkdir(parents=True)  # stopped there
    assert ", 6 steps of" in provenance_of(tmp_path / "first")
    gone = with_changes(tiny_run, "third", init_from=str(tmp_path / "gone"))
    assert provenance(gone).startswith("what gone had seen; then ")


def test_runs_that_began_from_each_other_end(tmp_path, tiny_run):
    (tmp_path / "again").mkdir()
    run = with_changes(tiny_run, "again", init_from=str(tmp_path / "again"))
    write_config(tmp_path / "again", run)
    assert provenance(run).count("(run again)") == 2
