"""Shards hold what was put in: bit for bit for pictures and cameras, to a level for depth."""

import dataclasses
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

from tests.dl3dv import write_nerfstudio
from tttlrm_jax.captures.camera_files import write_opencv_capture
from tttlrm_jax.captures.capture import load_views, read_capture
from tttlrm_jax.captures.collections import CollectionConfig, open_collection
from tttlrm_jax.captures.pictures.depth_files import disparity_path, write_disparity
from tttlrm_jax.captures.pictures.frame_pixels import read_pixels
from tttlrm_jax.config import DataConfig, SyntheticConfig
from tttlrm_jax.core.errors import ConfigError, InputError
from tttlrm_jax.datasets.pipeline import make_loader
from tttlrm_jax.datasets.prepare import main
from tttlrm_jax.datasets.shards.builder import write_shards
from tttlrm_jax.datasets.shards.reader import ShardScenes, fingerprint_of_shards
from tttlrm_jax.datasets.shards.records import capture_records, decode, synthetic_records
from tttlrm_jax.datasets.synthetic_cache import SyntheticScenes, build_cache
from tttlrm_jax.procedural.objects import render_object

CONFIG = SyntheticConfig(num_scenes=3, num_views=9, height=24, width=40)
SIZE = (CONFIG.height, CONFIG.width)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    directory = tmp_path_factory.mktemp("shards")
    return write_shards(directory, {"train": synthetic_records(CONFIG)}, progress=False)


def write_capture(directory, seed=0):
    scene = render_object(seed, CONFIG)
    write_opencv_capture(directory, scene["image"], scene["world_from_camera"], scene["intrinsics"])
    return read_capture(directory)


def test_scenes_equal_those_of_the_cache(shards, tmp_path):
    build_cache(CONFIG, tmp_path, progress=False)
    stored, cached = ShardScenes(shards, "train", SIZE), SyntheticScenes(CONFIG, tmp_path)
    assert len(stored) == len(cached) == 3
    for index in range(3):
        chosen = np.array([7, 0, 3])
        one, two = stored[index].read(chosen), cached[index].read(chosen)
        np.testing.assert_array_equal(one.image, two.image)
        np.testing.assert_array_equal(one.mask, two.mask)
        np.testing.assert_array_equal(one.intrinsics, two.intrinsics)
        np.testing.assert_allclose(one.depth, two.depth, atol=4 / 65535)
        np.testing.assert_array_equal(one.depth > 0, two.depth > 0)
        np.testing.assert_array_equal(
            stored[index].world_from_camera, cached[index].world_from_camera
        )
    with pytest.raises(IndexError):
        stored[3]


@pytest.mark.parametrize("progress", [True, False])
def test_standard_output_is_left_alone(tmp_path, capsys, progress):
    one = dataclasses.replace(CONFIG, num_scenes=1, num_views=1, height=8, width=8)
    write_shards(tmp_path, {"train": synthetic_records(one)}, progress)
    said = capsys.readouterr()
    assert said.out == ""
    assert ("downloaded and prepared to" in said.err) == progress


def test_writing_twice_gives_the_same_bytes(shards, tmp_path):
    again = write_shards(tmp_path, {"train": synthetic_records(CONFIG)}, progress=False)
    for file in shards.iterdir():
        assert (again / file.name).read_bytes() == file.read_bytes(), file.name
    with pytest.raises(InputError, match="holds a dataset already"):
        write_shards(tmp_path, {"train": synthetic_records(CONFIG)})


def test_fingerprint_is_of_content_not_of_place(shards, tmp_path):
    moved = tmp_path / "elsewhere"
    shutil.copytree(shards, moved)
    assert fingerprint_of_shards(moved) == fingerprint_of_shards(shards)
    other = dataclasses.replace(CONFIG, seed=1)
    path = write_shards(tmp_path / "other", {"train": synthetic_records(other)}, progress=False)
    assert fingerprint_of_shards(path) != fingerprint_of_shards(shards)
    (records,) = moved.glob("*.array_record*")
    content = bytearray(records.read_bytes())
    content[-1000] ^= 1
    records.write_bytes(content)
    assert fingerprint_of_shards(moved) != fingerprint_of_shards(shards)


def test_without_a_split_for_evaluation_frames_are_held_out(shards):
    scene = ShardScenes(shards, "train", SIZE, holdout_every=4)[1]
    np.testing.assert_array_equal(np.flatnonzero(scene.held_out), [0, 4, 8])
    assert ShardScenes(shards, "eval", SIZE, holdout_every=0)[1].held_out is None


def test_processes_share_the_scenes(shards):
    """Two processes of one run draw what one process draws, by turns, and read no TensorFlow."""
    config = DataConfig(
        source="shards", shard_directory=str(shards), capture_height=24, capture_width=40,
        num_input_views=3, num_target_views=2,
    )  # fmt: skip
    whole = make_loader(config, 5, 1, shuffle=True)
    parts = [make_loader(config, 5, 1, shard_index=k, shard_count=2) for k in (0, 1)]
    for number in range(6):
        one, two = next(whole), next(parts[number % 2])
        for name in one:
            np.testing.assert_array_equal(one[name], two[name])


def test_writing_and_reading_load_no_tensorflow(shards):
    assert ShardScenes(shards, "train", SIZE)[2].read(np.array([1])).image.shape == (1, *SIZE, 3)
    assert "tensorflow" not in sys.modules


def test_other_sizes_are_resized_as_captures_are(tmp_path):
    capture = write_capture(tmp_path / "capture")
    path = write_shards(tmp_path / "out", {"train": capture_records([capture])}, progress=False)
    views = ShardScenes(path, "train", (16, 16))[0].read(np.array([2, 5]))
    image, cameras = load_views(capture, [2, 5], 16, 16)
    np.testing.assert_array_equal(views.image, image)
    np.testing.assert_array_equal(views.intrinsics, cameras.intrinsics)
    assert views.mask.shape == (2, 16, 16)
    assert views.depth is None


def test_photographs_keep_their_bytes_unless_reduced(tmp_path):
    capture = write_capture(tmp_path / "capture")
    (kept,) = capture_records([capture])
    assert [view.image for view in kept.views] == [
        frame.image_path.read_bytes() for frame in capture.frames
    ]
    (reduced,) = capture_records([capture], max_side=20)
    np.testing.assert_allclose(reduced.intrinsics, kept.intrinsics / 2)
    path = write_shards(
        tmp_path / "out", {"train": capture_records([capture], 20, "CC0, nobody")}, progress=False
    )
    views = ShardScenes(path, "train", (12, 20))[0].read(np.array([1]))
    expected, _ = load_views(capture, [1], 12, 20)
    assert np.abs(views.image - expected).mean() < 0.01
    assert (path / "CREDITS.txt").read_text() == "CC0, nobody\n"


def test_masks_and_edges_of_lenses_come_along(capture_directory, camera_file):
    for path in (capture_directory / "images").iterdir():
        Image.open(path).convert("RGB").save(path)
    camera_file.to_transforms(k1=0.3)
    for masked, kind in ((False, b"WEBP"), (True, b"PNG")):
        if masked:
            (capture_directory / "masks").mkdir()
            half = Image.fromarray(np.repeat(np.uint8([[0, 255]]), 22, axis=1).repeat(30, axis=0))
            for number in range(12):
                half.save(capture_directory / f"masks/{number:06d}.png")
        capture = read_capture(capture_directory)
        (record,) = capture_records([capture])
        assert record.has_mask
        first = next(iter(record.views)).image
        assert kind in first[:16]
        expected = read_pixels(capture.frames[0])
        stored = decode(first, "first")
        np.testing.assert_array_equal(stored[..., 3], expected[..., 3])
        seen = expected[..., 3] > 0
        assert np.abs(stored[seen].astype(int) - expected[seen]).mean() < (0.1 if masked else 3)


def test_disparity_comes_along(tmp_path):
    capture = write_capture(tmp_path / "capture")
    disparity = np.linspace(3.0, 5.0, 24 * 40).reshape(24, 40)
    for frame in capture.frames:
        write_disparity(disparity_path(capture.directory, frame.name), disparity)
    path = write_shards(tmp_path / "out", {"train": capture_records([capture])}, progress=False)
    depth = ShardScenes(path, "train", SIZE)[0].read(np.array([0])).depth[0]
    inverse = 1 / depth
    share = (inverse - inverse.min()) / (inverse.max() - inverse.min())
    np.testing.assert_allclose(share, (disparity - 3.0) / 2.0, atol=1e-4)


def test_broken_and_missing_shards_are_named(tmp_path, capsys):
    with pytest.raises(InputError, match=r"data\.shard_directory=.* holds no shards"):
        ShardScenes(tmp_path, "train", SIZE)
    with pytest.raises(ConfigError, match=r"data\.shard_directory='' is empty"):
        DataConfig(source="shards")
    assert main([str(tmp_path / "out"), "captures", "--directory", str(tmp_path / "no")]) == 2
    assert "is not a directory" in capsys.readouterr().err


def test_command_packs_dl3dv_and_realestate(tmp_path):
    """Both layouts, made from the same scene, give its cameras and pictures."""
    scene = render_object(1, CONFIG)
    write_dl3dv(tmp_path / "dl3dv", scene)
    write_realestate(tmp_path / "realestate", scene)
    for layout in ("dl3dv", "realestate"):
        out = tmp_path / f"{layout}-shards"
        arguments = ["--directory", str(tmp_path / layout), "--layout", layout]
        assert main([str(out), "captures", *arguments]) == 0
        stored = ShardScenes(out, "train", SIZE)
        assert len(stored) == 1
        np.testing.assert_allclose(
            stored[0].world_from_camera, scene["world_from_camera"], atol=1e-6
        )
        views = stored[0].read(np.array([4]))
        np.testing.assert_allclose(views.intrinsics[0], scene["intrinsics"][4], rtol=1e-6)
        np.testing.assert_array_equal(np.rint(255 * views.image[0]), scene["image"][4, ..., :3])


def test_disparity_of_dl3dv_reaches_items_of_windows(tmp_path):
    """As docs/guides/training.md says for `configs/scene_curriculum.py`, without its model."""
    root = tmp_path / "dl3dv"
    write_dl3dv(root, render_object(1, CONFIG))
    (capture,) = open_collection(CollectionConfig(directory=str(root), layout="dl3dv"))
    for frame in capture.frames:
        disparity = np.full(SIZE, 2.0) + np.linspace(0, 1, SIZE[1])
        write_disparity(disparity_path(capture.directory, frame.name), disparity)
    assert (
        main([str(tmp_path / "out"), "captures", "--directory", str(root), "--layout", "dl3dv"])
        == 0
    )
    data = DataConfig(
        source="shards", shard_directory=str(tmp_path / "out"), capture_height=16, capture_width=32,
        num_input_views=3, num_target_views=2, view_selection="range", min_frame_range=6,
        max_frame_range=8, num_threads=0,
    )  # fmt: skip
    item = next(make_loader(data, 0, 2))
    assert item["input_depth"].shape == (2, 3, 16, 32)
    columns = item["input_depth"][0, 0].mean(axis=0)
    assert (np.diff(columns[columns > 0]) < 0).all()  # disparity grows to the right


def test_a_broken_scene_ends_packing_or_is_left_out_by_name(tmp_path, capsys):
    root = tmp_path / "dl3dv"
    for name in ("0a", "1b", "2c"):
        write_dl3dv(root, render_object(1, CONFIG), name=name)
    shutil.rmtree(root / "1b" / "nerfstudio" / "images_4")
    (root / "2c" / "nerfstudio" / "transforms.json").write_text("{")
    arguments = ["captures", "--directory", str(root), "--layout", "dl3dv"]
    assert main([str(tmp_path / "out"), *arguments]) == 2
    said = capsys.readouterr().err
    assert "1b" in said
    assert "--skip-broken" in said
    assert main([str(tmp_path / "out"), *arguments, "--skip-broken"]) == 0
    lines = [x for x in capsys.readouterr().err.splitlines() if x.startswith("left out: ")]
    assert len(lines) == 2
    assert "1b" in lines[0]
    assert "2c" in lines[1]
    assert len(ShardScenes(tmp_path / "out", "train", SIZE)) == 1


def write_dl3dv(root, scene, name="0a1b2c"):
    """`hash/nerfstudio`: cameras of the whole size, pictures at a quarter of it."""
    write_nerfstudio(root / name / "nerfstudio", scene)


def write_realestate(root, scene):
    """`train/CLIP.txt` with pictures in `train/CLIP/STAMP.png`."""
    folder = root / "train" / "00aa11"
    folder.mkdir(parents=True)
    lines = ["an address"]
    for number, (image, pose) in enumerate(
        zip(scene["image"], scene["world_from_camera"], strict=True)
    ):
        stamp = 33000 * (number + 1)
        Image.fromarray(image[..., :3]).save(folder / f"{stamp}.png")
        scale = np.tile([CONFIG.width, CONFIG.height], 2)
        lens = scene["intrinsics"][number] / scale
        rows = np.linalg.inv(pose)[:3].ravel()
        numbers = [*lens, 0.0, 0.0, *rows]
        lines.append(" ".join([str(stamp), *(f"{value:.9f}" for value in numbers)]))
    (folder.parent / "00aa11.txt").write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1 2 3", "is not 19 finite numbers"),
        (" ".join(["1"] * 19), "its pose"),
        (" ".join(["x"] * 19), "is not 19 finite numbers"),
    ],
)
def test_a_bad_clip_is_named(tmp_path, line, message):
    from tttlrm_jax.captures.collections import read_realestate

    (tmp_path / "clip.txt").write_text(f"address\n{line}\n")
    with pytest.raises(InputError, match=message):
        read_realestate(tmp_path / "clip.txt", tmp_path / "clip")


def test_eval_split_of_its_own(tmp_path):
    held_out = dataclasses.replace(CONFIG, split="eval", num_scenes=1)
    splits = {"train": synthetic_records(CONFIG), "eval": synthetic_records(held_out)}
    path = write_shards(tmp_path, splits, progress=False)
    train, evaluation = (ShardScenes(path, split, SIZE) for split in ("train", "eval"))
    assert (len(train), len(evaluation)) == (3, 1)
    assert train[0].held_out is None
    assert evaluation[0].name == "primitives-eval-0000000"


def test_join_holds_every_scene_of_its_parts_and_all_credits(shards, tmp_path, capsys):
    other = dataclasses.replace(CONFIG, seed=1, num_scenes=2)
    held_out = dataclasses.replace(other, split="eval", num_scenes=1)
    records = [dataclasses.replace(r, credit="Somebody, CC0") for r in synthetic_records(other)]
    splits = {"train": records, "eval": synthetic_records(held_out)}
    second = write_shards(tmp_path / "second", splits, progress=False)
    assert main([str(tmp_path / "both"), "join", "--directories", str(shards), str(second)]) == 0
    joined = ShardScenes(tmp_path / "both", "train", SIZE)
    parts = [ShardScenes(path, "train", SIZE) for path in (shards, second)]
    assert len(joined) == 5
    for scene, original in zip(joined, [s for part in parts for s in part], strict=True):
        ours, theirs = scene.read(np.array([0, 4])), original.read(np.array([0, 4]))
        np.testing.assert_array_equal(ours.image, theirs.image)
        np.testing.assert_array_equal(ours.depth, theirs.depth)
        np.testing.assert_array_equal(ours.mask, theirs.mask)
        np.testing.assert_array_equal(ours.intrinsics, theirs.intrinsics)
        np.testing.assert_array_equal(scene.world_from_camera, original.world_from_camera)
        assert scene.name == original.name
    assert ShardScenes(tmp_path / "both", "eval", SIZE)[0].held_out is None
    assert len(ShardScenes(tmp_path / "both", "eval", SIZE)) == 1
    assert "Somebody, CC0" in (joined.path / "CREDITS.txt").read_text()
    capsys.readouterr()
    assert main([str(tmp_path / "none"), "join", "--directories", str(shards), str(shards)]) == 2
    assert "names none or one of them twice" in capsys.readouterr().err
    bare = [dataclasses.replace(r, has_depth=False) for r in synthetic_records(other)]
    third = write_shards(tmp_path / "third", {"train": bare}, progress=False)
    assert main([str(tmp_path / "none"), "join", "--directories", str(shards), str(third)]) == 2
    assert f"{third} lacks depth and others do not" in capsys.readouterr().err
    missing = str(tmp_path / "missing")
    assert main([str(tmp_path / "none"), "join", "--directories", str(shards), missing]) == 2
    assert missing in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
