"""From DL3DV's layouts to shards in one command: poses checked, stops survived, all of it said."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from tests.dl3dv import APPLIED, write_nerfstudio, write_points
from tttlrm_jax.captures.pictures.depth_files import disparity_path
from tttlrm_jax.config import SyntheticConfig
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.datasets.prepare import main
from tttlrm_jax.datasets.shards import preparation
from tttlrm_jax.datasets.shards.preparation import CaptureShards, PoseLimits, prepare_captures
from tttlrm_jax.datasets.shards.reader import ShardScenes
from tttlrm_jax.datasets.shards.staging import FOLDER
from tttlrm_jax.procedural.objects import render_object

CONFIG = SyntheticConfig(num_views=6, height=24, width=40, supersampling=1)
SIZE = (CONFIG.height, CONFIG.width)
STATED = {"applied_transform": APPLIED.tolist()}
LENS = {"k1": 0.06, "k2": -0.02}


@pytest.fixture(scope="module")
def scenes():
    return [render_object(seed, CONFIG) for seed in (1, 2, 3)]


def write_dataset(root, scenes, names=("0a", "1b", "2c"), **options):
    """Scenes `HASH/colmap/` with `colmap/sparse/0` in it, as DL3DV's samples are."""
    for name, scene in zip(names, scenes, strict=False):
        folder = root / name / "colmap"
        write_nerfstudio(folder, scene, **(STATED | options))
        write_points(folder / "colmap" / "sparse" / "0", scene)
    return root


def settings(root, **options):
    return CaptureShards(directory=str(root), layout="dl3dv", **options)


def report_of(output):
    return json.loads((output / "preparation.json").read_text())["scenes"]


def test_one_command_checks_poses_and_writes_report_and_shards(tmp_path, scenes, capsys):
    root = write_dataset(tmp_path / "dl3dv", scenes[:2])
    write_nerfstudio(root / "2c", scenes[2])  # of the parts without COLMAP's files
    out = tmp_path / "out"
    arguments = ["captures", "--directory", str(root), "--layout", "dl3dv", "--credit", "DL3DV"]
    assert main([str(out), *arguments, "--poses.height", "12", "--poses.width", "16"]) == 0
    said = capsys.readouterr().out
    assert "3 of 3 scenes written, 18 views; poses of 1 not checked" in said
    assert "2c: not checked: no COLMAP points3D with tracks" in said
    assert said.startswith("scene  state    views  points  px      95%px   scale   px_scaled")
    rows = report_of(out)
    assert [row["scene"] for row in rows] == ["0a", "1b", "2c"]
    for row in rows[:2]:
        found = row["poses"]
        assert found["error"] < 1e-3
        assert found["scale"] == pytest.approx(1.0, abs=1e-4)
        assert found["world"] == "applied_transform"
        assert found["frames"] == 6
    assert len(ShardScenes(out, "train", SIZE)) == 3
    assert not (out / FOLDER).exists()
    assert main([str(out), *arguments]) == 2
    assert "holds a dataset already" in capsys.readouterr().err


@pytest.mark.parametrize("noise", [0.0, 2.0])
def test_translations_scaled_against_the_points_are_told_by_their_scale(tmp_path, scenes, noise):
    """1.35 as of Long-LRM's scenes: refused, left out with a line, or kept, as is asked for."""
    root = write_dataset(tmp_path / "dl3dv", scenes[:1])
    folder = root / "1b" / "colmap"
    write_nerfstudio(folder, scenes[1], translations=1.35, **STATED)
    write_points(folder / "colmap" / "sparse" / "0", scenes[1], noise=noise)
    limits = PoseLimits(max_error=0.8)
    with pytest.raises(InputError, match=r"scene=1b: camera translations are 1\.3[45]"):
        prepare_captures(tmp_path / "out", settings(root, poses=limits))
    limits = dataclasses.replace(limits, bad="leave_out")
    path = prepare_captures(tmp_path / "out", settings(root, poses=limits))
    assert len(ShardScenes(path, "train", SIZE)) == 1
    row = report_of(tmp_path / "out")[1]
    assert row["state"] == "left out"
    assert row["poses"]["scale"] == pytest.approx(1.35, abs=0.015)
    assert row["poses"]["error"] > 0.9
    assert row["poses"]["error_scaled"] < 0.02 + 0.5 * noise
    assert "1b: camera translations are 1.3" in (tmp_path / "out/preparation.txt").read_text()
    limits = dataclasses.replace(limits, bad="keep")
    path = prepare_captures(tmp_path / "kept", settings(root, poses=limits))
    assert len(ShardScenes(path, "train", SIZE)) == 2


@pytest.mark.parametrize("resize", ["tttlrm", "lact"])
@pytest.mark.parametrize("size", [None, (9, 11)])
def test_lens_size_and_crop_are_followed(tmp_path, scenes, resize, size):
    """Errors are those of what is read: none for true cameras, those of a wrong focal length."""
    root = tmp_path / "dl3dv"
    for name, wrong in (("0a", 1.0), ("1b", 1.1)):
        folder, factor = root / name / "nerfstudio", 4 * wrong
        write_nerfstudio(folder, scenes[0], **STATED, **LENS)
        write_points(folder / "colmap" / "sparse" / "0", scenes[0], lens=tuple(LENS.values()))
        document = json.loads((folder / "transforms.json").read_text())
        document["fl_x"] = factor * scenes[0]["intrinsics"][0, 0]
        (folder / "transforms.json").write_text(json.dumps(document))
    height, width = size or (None, None)
    limits = PoseLimits(bad="keep", height=height, width=width, resize=resize)
    prepare_captures(tmp_path / "out", settings(root, poses=limits, max_side=30))
    true, wrong = (row["poses"] for row in report_of(tmp_path / "out"))
    assert true["error"] < 2e-3
    assert wrong["error"] > 100 * true["error"]


def test_points_beside_the_benchmark_and_in_another_folder_are_found(tmp_path, scenes):
    """`gaussian_splat` holds undistorted pictures of its own; without `applied_transform` the
    model's own cameras say where its world is."""
    root, cache = tmp_path / "dl3dv", tmp_path / "cache"
    write_nerfstudio(root / "0a" / "nerfstudio", scenes[0], **STATED, **LENS)
    write_points(root / "0a" / "gaussian_splat" / "sparse" / "0", scenes[0], factor=3.7)
    write_nerfstudio(root / "1b", scenes[1])
    write_points(cache / "1b" / "colmap" / "sparse" / "0", scenes[1])
    limits = PoseLimits(points_directory=str(cache))
    prepare_captures(tmp_path / "out", settings(root, poses=limits))
    first, second = (row["poses"] for row in report_of(tmp_path / "out"))
    assert first["error"] < 1e-3
    assert second["error"] < 1e-3
    assert second["world"] == "turned and moved onto the model's own cameras"


class Stopped(BaseException):
    """As a signal would: nothing catches it."""


def stopped_after(monkeypatch, module, name, count):
    """Lets a function of a module run so often, then stops; returns what it was called with."""
    original, calls = getattr(module, name), []

    def counted(*arguments, **options):
        if len(calls) == count:
            raise Stopped
        calls.append(arguments)
        return original(*arguments, **options)

    monkeypatch.setattr(module, name, counted)
    return calls


def test_a_stopped_command_goes_on_where_it_was(tmp_path, scenes, monkeypatch):
    """Stopped in a scene, then while shards are written: what is finished is not done again."""
    root, out = write_dataset(tmp_path / "dl3dv", scenes), tmp_path / "out"
    straight = prepare_captures(tmp_path / "straight", settings(root))
    with monkeypatch.context() as patch:
        from tttlrm_jax.datasets.shards import records

        views = stopped_after(patch, records, "_capture_view", 9)  # in the second scene
        with pytest.raises(Stopped):
            prepare_captures(out, settings(root))
        assert len(views) == 9
    assert len(list((out / FOLDER).glob("*.zip"))) == 1
    assert not list(out.glob("scene_shards/1*"))
    with monkeypatch.context() as patch:
        stopped_after(patch, preparation.Stage, "scene", 1)  # while shards are written
        made = stopped_after(patch, preparation, "capture_record", 9)
        with pytest.raises(Stopped):
            prepare_captures(out, settings(root))
        assert [capture.name for capture, *_ in made] == ["1b", "2c"]
    assert not list(out.glob("scene_shards/1*"))
    damaged = sorted((out / FOLDER).glob("*.zip"))[0]
    content = bytearray(damaged.read_bytes())
    content[len(content) // 3] ^= 255
    damaged.write_bytes(content)
    with pytest.raises(InputError, match="was damaged after it was written"):
        prepare_captures(out, settings(root))
    assert not damaged.exists()
    with monkeypatch.context() as patch:
        made = stopped_after(patch, preparation, "capture_record", 9)
        path = prepare_captures(out, settings(root))
        assert len(made) == 1
    for file in straight.iterdir():
        assert (path / file.name).read_bytes() == file.read_bytes(), file.name
    assert sorted(p.name for p in out.iterdir()) == [
        "preparation.json", "preparation.txt", "scene_shards",
    ]  # fmt: skip
    assert [p.name for p in (out / "scene_shards").iterdir()] == ["1.0.0"]


def test_changed_scenes_are_made_again_and_published_ones_not(tmp_path, scenes, monkeypatch):
    root, out = write_dataset(tmp_path / "dl3dv", scenes[:2]), tmp_path / "out"
    with monkeypatch.context() as patch:
        stopped_after(patch, preparation, "write_shards", 0)
        with pytest.raises(Stopped):
            prepare_captures(out, settings(root))
    shutil.rmtree(root / "0a")
    write_dataset(root, scenes[2:], names=["0a"])
    with monkeypatch.context() as patch:
        made = stopped_after(patch, preparation, "capture_record", 9)
        stopped_after(patch, preparation.Stage, "remove", 0)
        with pytest.raises(Stopped):
            prepare_captures(out, settings(root))
        assert [capture.name for capture, *_ in made] == ["0a"]
    scene = ShardScenes(out, "train", SIZE)[0]
    np.testing.assert_allclose(scene.world_from_camera, scenes[2]["world_from_camera"])
    with monkeypatch.context() as patch:  # shards were written: only the rest is removed
        made = stopped_after(patch, preparation, "capture_record", 0)
        prepare_captures(out, settings(root))
    assert not (out / FOLDER).exists()


def test_disparity_is_added_and_two_commands_do_not_meet(tmp_path, scenes):
    root, out = write_dataset(tmp_path / "dl3dv", scenes[:1]), tmp_path / "out"
    calls = []

    def predict(image):
        calls.append(image.shape)
        return np.arange(24 * 40, dtype=np.float64).reshape(24, 40)

    with (
        preparation.Stage(out).locked(),
        pytest.raises(InputError, match="is being written by another"),
    ):
        prepare_captures(out, settings(root), predict)
    assert not calls
    path = prepare_captures(out, settings(root), predict)
    assert calls == [(*SIZE, 3)] * 6
    assert disparity_path(root / "0a" / "colmap", "images_4/frame_00001.png").is_file()
    assert ShardScenes(path, "train", SIZE)[0].read(np.array([0])).depth.max() > 1


def test_bad_settings_and_empty_datasets_are_named(tmp_path, scenes):
    root = write_dataset(tmp_path / "dl3dv", scenes[:1])
    with pytest.raises(InputError, match=r"--poses\.height, --poses\.width=8, None is no size"):
        prepare_captures(tmp_path / "out", settings(root, poses=PoseLimits(height=8)))
    (root / "0a" / "colmap" / "transforms.json").write_text("{")
    with pytest.raises(InputError, match=r"gives no scene of layout dl3dv \(1 are left out\)"):
        prepare_captures(tmp_path / "out", settings(root, skip_broken=True))
    assert "transforms.json is not JSON" in report_of(tmp_path / "out")[0]["why"]
