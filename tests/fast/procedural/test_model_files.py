"""Archives, folders and files of models as scenes for training."""

import dataclasses
import shutil
import zipfile

import numpy as np
import pytest

from tests.gltf import cube, write_models
from tttlrm_jax.config import SyntheticConfig
from tttlrm_jax.core.errors import ConfigError, InputError
from tttlrm_jax.datasets.prepare import main
from tttlrm_jax.datasets.shards.reader import ShardScenes
from tttlrm_jax.datasets.synthetic_cache import build_cache, cache_path
from tttlrm_jax.procedural.generators import render_scene
from tttlrm_jax.procedural.model_files import ModelFiles
from tttlrm_jax.procedural.objects import scene_seed

OBJ = b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n"


@pytest.fixture
def archive(tmp_path):
    return write_models(tmp_path / "made.zip")


@pytest.fixture
def config(archive):
    return SyntheticConfig(
        generator="models", models=(str(archive),), models_credit="Somebody, CC0", num_views=2,
        height=24, width=24, num_scenes=3, supersampling=1,
    )  # fmt: skip


def test_zips_folders_and_files_hold_the_same(tmp_path, archive):
    shutil.unpack_archive(archive, tmp_path / "folder")
    for path, name in ((archive, "made/a.glb"), (tmp_path / "folder", "made/a.glb"),
                       (tmp_path / "folder/made/a.glb", "a.glb")):  # fmt: skip
        files = ModelFiles(path)
        surface = files.load(name).surface
        extent = surface.vertices.max(axis=0) - surface.vertices.min(axis=0)
        # y is up in the file (scale 1, 2, 0.5), z here; the ball has radius 1
        np.testing.assert_allclose(extent, 2 * np.array([1, 0.5, 2]) / np.sqrt(5.25), rtol=1e-5)
    assert ModelFiles(archive).names == ("made/a.glb", "made/b.glb", "made/l.glb")


def test_nothing_outside_of_the_folder_is_read(tmp_path):
    (tmp_path / "secret.glb").write_bytes(cube())
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.obj").write_bytes(OBJ)
    files = ModelFiles(tmp_path / "in")
    for name in ("../secret.glb", "x/../../secret.glb", str(tmp_path / "secret.glb")):
        with pytest.raises(KeyError):
            files.fetch(name)
    assert files.fetch("x/../a.obj") == OBJ


def test_scenes_take_the_models_by_turns_and_splits_are_apart(config):
    """Two of three models are for training; a lap shows both, in one colour each."""
    reds = [
        int(np.median(scene["image"][scene["image"][..., 3] == 255][:, 0]))
        for scene in (render_scene(scene_seed(config, index), config) for index in range(2))
    ]
    assert abs(reds[0] - reds[1]) > 15
    held_out = dataclasses.replace(config, split="eval")
    image = render_scene(scene_seed(held_out, 0), held_out)["image"]
    green_over_red = image[..., 1].sum() / image[..., 0].sum()
    assert green_over_red == pytest.approx(0.78, abs=0.05)  # of 0.9 and 0.5 in linear light


def test_bad_models_are_replaced_by_name_or_refused(config, archive, capsys):
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr("made/bad.glb", b"nothing")
    for index in range(3):
        assert render_scene(scene_seed(config, index), config)["image"].any()
    assert "left out: model=made/bad.glb is no glTF" in capsys.readouterr().err
    strict = dataclasses.replace(config, bad_models="refuse")
    seeds = [scene_seed(strict, index) for index in range(3)]
    with pytest.raises(InputError, match="or leave such models out"):
        list(map(render_scene, seeds, [strict] * 3))


def test_caches_follow_what_the_models_hold_and_keep_credits(config, archive, tmp_path):
    path = build_cache(config, tmp_path / "cache", progress=False)
    credit = (path / "CREDITS.txt").read_text().splitlines()
    assert credit == [f"made/{n}.glb; Somebody, CC0; made.zip" for n in "ab"]
    moved = tmp_path / "moved.zip"
    shutil.move(archive, moved)
    same = dataclasses.replace(config, models=(str(moved),), models_credit="Another")
    assert cache_path(same, tmp_path / "cache") == path
    other = write_models(tmp_path / "other.zip", count=2)
    changed = dataclasses.replace(config, models=(str(other),))
    assert cache_path(changed, tmp_path / "cache") != path


def test_command_counts_names_and_credits(archive, tmp_path, capsys):
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr("made/bad.glb", b"nothing")
        file.writestr("b.obj", OBJ)
        file.writestr("own.glb", cube(asset={"version": "2.0", "copyright": "Me, CC-BY 4.0"}))
    arguments = ["models", "--models", str(archive), "--credit", "Somebody, CC0",
                 "--config.num-views", "2", "--config.height", "16", "--config.width", "16",
                 "--config.supersampling", "1"]  # fmt: skip
    assert main([str(tmp_path / "out"), *arguments]) == 0
    said = capsys.readouterr().err
    assert "left out: model=made/bad.glb is no glTF 2.0 that can be read" in said
    assert "5 of 6 models can be read" in said
    train, held_out = (ShardScenes(tmp_path / "out", s, (16, 16)) for s in ("train", "eval"))
    assert [scene.name for scene in train] == ["b", "made-a", "made-b", "own"]
    assert [scene.name for scene in held_out] == ["made-l"]
    credit = (train.path / "CREDITS.txt").read_text()
    assert "own.glb; Me, CC-BY 4.0; Somebody, CC0; made.zip\n" in credit
    assert main([str(tmp_path / "no"), *arguments, "--bad", "refuse"]) == 2
    assert "made/bad.glb" in capsys.readouterr().err


def test_missing_files_and_credits_are_named(tmp_path, archive):
    with pytest.raises(ConfigError, match="are empty while generator=models"):
        SyntheticConfig(generator="models", models=(str(archive),))
    (tmp_path / "no.zip").write_text("nothing")
    with pytest.raises(InputError, match="is no folder, model or ZIP archive"):
        ModelFiles(tmp_path / "no.zip")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"holds no \.glb, \.gltf, \.obj"):
        ModelFiles(tmp_path / "empty")
