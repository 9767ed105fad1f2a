import dataclasses

import numpy as np
import pytest
from PIL import Image

from tttlrm_jax.captures.camera_files import write_opencv_capture
from tttlrm_jax.captures.capture import read_capture
from tttlrm_jax.config import DataConfig, SyntheticConfig
from tttlrm_jax.core.errors import ConfigError, InputError
from tttlrm_jax.datasets.pipeline import draw_item, draw_views, evaluation_loader, make_loader
from tttlrm_jax.datasets.sources import open_source
from tttlrm_jax.datasets.synthetic_cache import SyntheticScenes, build_cache

SYNTHETIC = SyntheticConfig(num_scenes=10, num_views=9, height=16, width=24)
BASE = DataConfig(synthetic=SYNTHETIC, num_input_views=3, num_target_views=2)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    directory = tmp_path_factory.mktemp("cache")
    build_cache(SYNTHETIC, directory, progress=False)
    return SyntheticScenes(SYNTHETIC, directory)


def config(**changes):
    return dataclasses.replace(BASE, **changes)


def item(source, index=4, seed=0, **changes):
    return draw_item(source[index], np.random.default_rng(seed), config(**changes), index)


def assert_same(one, two):
    assert one.keys() == two.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], two[name], err_msg=name)


def test_batches_have_the_promised_arrays(source):
    batch = next(make_loader(BASE, 0, 4, source=source))
    expected = {"scene_scale": (4,), "scene_index": (4,)}
    for half, views in (("input", 3), ("target", 2)):
        expected |= {
            f"{half}_image": (4, views, 16, 24, 3),
            f"{half}_mask": (4, views, 16, 24),
            f"{half}_depth": (4, views, 16, 24),
            f"{half}_world_from_camera": (4, views, 4, 4),
            f"{half}_intrinsics": (4, views, 4),
        }
    assert {name: array.shape for name, array in batch.items()} == expected
    for name, array in batch.items():
        assert array.dtype == (np.int32 if name == "scene_index" else np.float32), name
        assert np.isfinite(array).all()
    assert batch["input_image"].min() >= 0
    assert batch["input_image"].max() <= 1
    np.testing.assert_allclose(batch["input_image"][batch["input_mask"] == 0], 1.0)


@pytest.mark.parametrize("threads", [0, 3])
def test_a_resumed_loader_continues_to_the_bit(source, threads):
    settings = config(num_threads=threads)
    loader = make_loader(settings, 7, 3, source=source)
    for _ in range(5):
        next(loader)
    state = loader.get_state()
    rest = [next(loader) for _ in range(6)]
    resumed = make_loader(settings, 7, 3, source=source)
    resumed.set_state(state)
    for expected in rest:
        assert_same(next(resumed), expected)


def test_threads_do_not_change_batches(source):
    plain = make_loader(config(num_threads=0), 3, 2, source=source)
    threaded = make_loader(config(num_threads=4), 3, 2, source=source)
    for _ in range(8):
        assert_same(next(plain), next(threaded))


def test_seeds_and_epochs_draw_different_views(source):
    one = next(make_loader(BASE, 0, 10, source=source))
    two = next(make_loader(BASE, 1, 10, source=source))
    assert not np.array_equal(one["input_image"], two["input_image"])
    loader = make_loader(BASE, 0, 10, source=source)
    first, second = next(loader), next(loader)
    assert sorted(first["scene_index"]) == sorted(second["scene_index"]) == list(range(10))
    assert not np.array_equal(first["scene_index"], second["scene_index"])
    where = {int(index): place for place, index in enumerate(second["scene_index"])}
    same = [
        np.array_equal(first["input_image"][place], second["input_image"][where[int(index)]])
        for place, index in enumerate(first["scene_index"])
    ]
    assert not all(same)


def test_evaluation_visits_every_scene_once_in_order(source):
    loader = make_loader(
        BASE, 0, 4, source=source, shuffle=False, num_epochs=1, drop_remainder=False
    )
    order = np.concatenate([batch["scene_index"] for batch in loader])
    np.testing.assert_array_equal(order, np.arange(10))


def test_shards_partition_the_epoch(source):
    seen = [
        np.concatenate([
            batch["scene_index"]
            for batch in make_loader(
                BASE, 5, 1, source=source, num_epochs=1, shard_index=shard, shard_count=3
            )
        ])
        for shard in range(3)
    ]  # fmt: skip
    assert sorted(np.concatenate(seen)) == list(range(10))


def test_inputs_alone_define_frame_and_scale(source):
    drawn = item(source)
    centres = drawn["input_world_from_camera"][:, :3, 3]
    assert np.abs(centres).max() == pytest.approx(1.0, abs=1e-6)
    np.testing.assert_allclose(centres.mean(axis=0), 0, atol=1e-6)
    whole = item(source, normalise_over="all")
    both = np.concatenate([whole["input_world_from_camera"], whole["target_world_from_camera"]])
    assert np.abs(both[:, :3, 3]).max() == pytest.approx(1.0, abs=1e-6)
    np.testing.assert_array_equal(whole["input_image"], drawn["input_image"])
    other = item(source, num_target_views=5)
    np.testing.assert_array_equal(
        other["input_world_from_camera"], drawn["input_world_from_camera"]
    )
    first = item(source, pose_normalisation="first_cam")
    np.testing.assert_allclose(first["input_world_from_camera"][0], np.eye(4), atol=1e-6)


def lifted(drawn, half, view):
    """Normalised world points of a view's covered pixels."""
    row, column = np.nonzero(drawn[f"{half}_depth"][view])
    depth = drawn[f"{half}_depth"][view][row, column]
    fx, fy, cx, cy = drawn[f"{half}_intrinsics"][view]
    local = np.stack([(column + 0.5 - cx) / fx, (row + 0.5 - cy) / fy, np.ones_like(depth)], -1)
    pose = drawn[f"{half}_world_from_camera"][view]
    return (local * depth[:, None]) @ pose[:3, :3].T + pose[:3, 3]


def test_depth_poses_and_scale_fit_together(source):
    """The object lies in the unit ball of the scene, hence in a ball of radius scene_scale."""
    drawn = item(source)
    points = np.concatenate(
        [lifted(drawn, half, view) for half in ("input", "target") for view in range(2)]
    )
    radius = float(drawn["scene_scale"])
    spread = np.linalg.norm(points[:, None] - points[None, ::7], axis=-1).max()
    assert 0.2 * radius < spread < 2.0 * radius + 1e-4


def test_targets_leave_inputs_out_unless_told():
    poses = np.tile(np.eye(4), (6, 1, 1))
    overlaps = 0
    for seed in range(40):
        inputs, targets = draw_views(poses, np.random.default_rng(seed), BASE)
        assert len(set(inputs)) == 3
        assert not set(inputs) & set(targets)
        _, targets = draw_views(
            poses, np.random.default_rng(seed), config(targets_include_inputs=True)
        )
        overlaps += bool(set(inputs) & set(targets))
    assert overlaps > 10


def test_every_view_is_drawn_as_input_and_as_target():
    poses = np.tile(np.eye(4), (7, 1, 1))
    drawn = [draw_views(poses, np.random.default_rng(seed), BASE) for seed in range(80)]
    for half in (0, 1):
        assert set(np.concatenate([views[half] for views in drawn])) == set(range(7))


def test_kmeans_inputs_are_fixed_distinct_and_spread(source):
    settings = config(view_selection="kmeans")
    poses = source[2].world_from_camera
    chosen = [draw_views(poses, np.random.default_rng(seed), settings)[0] for seed in range(3)]
    np.testing.assert_array_equal(chosen[0], chosen[1])
    same = np.tile(np.eye(4), (9, 1, 1))
    inputs, targets = draw_views(same, np.random.default_rng(0), settings)
    assert len(set(inputs) | set(targets)) == 5


def test_range_draws_from_one_window():
    poses = np.tile(np.eye(4), (400, 1, 1))
    settings = config(view_selection="range", min_frame_range=20, max_frame_range=30)
    places = []
    for seed in range(30):
        views = np.concatenate(draw_views(poses, np.random.default_rng(seed), settings))
        assert np.ptp(views) < 30
        places.append(views.min())
    assert np.ptp(places) > 200


def test_inputs_and_targets_come_from_one_pool_of_a_window():
    """A window of 20 to 30 frames, 6 of them, from these 3 inputs and 2 targets, with overlap."""
    poses = np.tile(np.eye(4), (400, 1, 1))
    pooled = config(
        view_selection="range", min_frame_range=20, max_frame_range=30, num_pool_views=4,
        targets_include_inputs=True,
    )  # fmt: skip
    whole = dataclasses.replace(pooled, num_pool_views=None)
    drawn = {4: [], None: []}
    for seed in range(60):
        for settings in (pooled, whole):
            inputs, targets = draw_views(poses, np.random.default_rng(seed), settings)
            assert np.ptp(np.concatenate([inputs, targets])) < 30
            assert list(inputs) == sorted(set(inputs))
            overlap = len(set(inputs) & set(targets))
            drawn[settings.num_pool_views].append(overlap)
    # of 2 targets from 4 frames, 3 of which are inputs, at least one is an input
    assert min(drawn[4]) == 1
    assert max(drawn[4]) == 2
    assert min(drawn[None]) == 0


def test_the_published_pool_fits_the_narrowest_window_with_every_32nd_frame_held_out():
    poses, frames = np.tile(np.eye(4), (300, 1, 1)), np.arange(300)
    held_out = frames % 32 == 0
    settings = captures_config(
        "clips", view_selection="range", num_pool_views=124, targets_include_inputs=True,
        holdout_every=32, max_frame_range=128,
    )  # fmt: skip
    for seed in range(20):
        rng = np.random.default_rng(seed)
        views = np.concatenate(draw_views(poses, rng, settings, held_out))
        assert not held_out[views].any()
    with pytest.raises(InputError, match=r"num_pool_views=124 exceeds the 112 frames of a scene"):
        draw_views(poses, np.random.default_rng(0), settings, frames % 8 == 0)


def test_too_few_frames_are_named():
    with pytest.raises(InputError, match="5 exceeds the 4 frames"):
        draw_views(np.tile(np.eye(4), (4, 1, 1)), np.random.default_rng(0), BASE)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_input_views": 8}, "exceeds data.synthetic.num_views=9"),
        ({"num_target_views": 0}, "num_target_views"),
        ({"source": "captures"}, "name at least one directory"),
        ({"min_frame_range": 600}, "max_frame_range"),
        ({"background": (1.0, 2.0, 0.0)}, "background"),
        ({"num_threads": -1}, "num_threads"),
        ({"holdout_every": -1}, "holdout_every"),
        ({"holdout_every": 1}, "holds every frame out"),
        ({"num_pool_views": 4}, "num_pool_views=4 is less than the 5 views that an item draws"),
        ({"num_pool_views": 10}, "num_pool_views=10 exceeds data.synthetic.num_views=9"),
        ({"num_pool_views": 6, "view_selection": "kmeans"}, "which data.view_selection=kmeans is"),
        (
            {"num_pool_views": 6, "view_selection": "range", "min_frame_range": 5},
            "num_pool_views=6 exceeds data.min_frame_range=5",
        ),
    ],
)
def test_impossible_configurations_are_refused(changes, words):
    with pytest.raises(ConfigError, match=words):
        config(**changes)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": 11, "num_epochs": 1}, "exceeds the 10 items"),
        ({"batch_size": 1, "shard_index": 2, "shard_count": 2}, "shard_index"),
    ],
)
def test_impossible_loaders_are_refused(source, arguments, words):
    with pytest.raises(InputError, match=words):
        make_loader(BASE, 0, source=source, **arguments)


def captures_config(*directories, **changes):
    return DataConfig(
        source="captures", capture_directories=tuple(map(str, directories)), capture_height=16,
        capture_width=24, num_input_views=3, num_target_views=2, **changes,
    )  # fmt: skip


@pytest.mark.parametrize("threads", [0, 2])
def test_one_capture_fills_any_batch_without_end(capture_directory, threads):
    loader = make_loader(captures_config(capture_directory, num_threads=threads), 0, 5)
    for _ in range(3):
        batch = next(loader)
        assert batch["input_image"].shape == (5, 3, 16, 24, 3)
        assert not batch["scene_index"].any()
    assert not np.array_equal(batch["input_image"][0], batch["input_image"][1])
    assert not any("depth" in name for name in batch)
    assert batch["target_mask"].shape == (5, 2, 16, 24)


@pytest.mark.parametrize("photographs", [(0,), tuple(range(12))])
def test_masks_are_left_out_of_all_items_if_one_image_has_none(
    tmp_path, capture_directory, rendered, photographs
):
    other = tmp_path / "photographs"
    write_opencv_capture(
        other, rendered["image"], rendered["world_from_camera"], rendered["intrinsics"]
    )
    for number in photographs:
        path = other / "images" / f"{number:06d}.png"
        Image.open(path).convert("RGB").save(path)
    loader = make_loader(captures_config(capture_directory, other), 0, 4)
    for _ in range(3):
        assert not {"input_mask", "target_mask", "input_depth", "target_depth"} & set(next(loader))


def test_more_targets_than_held_out_frames_are_refused():
    rng, held_out = np.random.default_rng(0), np.arange(40) % 20 == 0
    poses = np.tile(np.eye(4), (40, 1, 1))
    with pytest.raises(InputError, match="=3 exceeds the 2 held-out frames of a scene"):
        draw_views(poses, rng, config(num_target_views=3), held_out, "eval")


@pytest.mark.parametrize("selection", ["random", "kmeans", "range"])
@pytest.mark.parametrize("include", [False, True])
def test_held_out_views_are_targets_of_evaluation_only(selection, include):
    poses = np.tile(np.eye(4), (40, 1, 1))
    poses[:, 0, 3] = np.arange(40)
    held_out = np.arange(40) % 8 == 0
    settings = config(
        view_selection=selection, targets_include_inputs=include, min_frame_range=18,
        max_frame_range=25,
    )  # fmt: skip
    seen = {"train": [], "eval": []}
    for seed in range(40):
        for split, targets_seen in seen.items():
            rng = np.random.default_rng(seed)
            inputs, targets = draw_views(poses, rng, settings, held_out, split)
            assert not held_out[inputs].any()
            assert len(set(inputs)) == 3
            assert len(set(targets)) == 2
            targets_seen += list(targets)
    assert not held_out[seen["train"]].any()
    assert set(seen["eval"]) == {0, 8, 16, 24, 32}


def test_captures_without_holdout_draw_from_all_frames(capture_directory):
    settings = captures_config(capture_directory, holdout_every=0, num_threads=0)
    batch = next(make_loader(settings, 0, 40))
    held_out = open_source(settings)[0].read(np.array([0, 8])).image
    for half in ("input", "target"):
        drawn = {image.tobytes() for image in np.concatenate(batch[f"{half}_image"])}
        assert {image.tobytes() for image in held_out} <= drawn


def _between_views(poses):
    return np.linalg.norm(poses[:, 0, :3, 3] - poses[:, 1, :3, 3], axis=-1)


def test_evaluation_of_captures_takes_the_targets_there_are(capture_directory):
    """Twelve frames: 0 and 8 are held out."""
    settings = dataclasses.replace(captures_config(capture_directory), num_target_views=7)
    (batch,) = evaluation_loader(settings, 16, 4)
    assert batch["target_image"].shape == (1, 2, 16, 24, 3)
    raw = read_capture(capture_directory).world_from_camera[[0, 8], :3, 3]
    apart = _between_views(batch["target_world_from_camera"])[0] / batch["scene_scale"][0]
    assert apart == pytest.approx(np.linalg.norm(raw[0] - raw[1]), rel=1e-5)
    narrow = dataclasses.replace(settings, view_selection="range", min_frame_range=5)
    with pytest.raises(InputError, match=r"data.holdout_every=8 leaves .* without a frame"):
        evaluation_loader(narrow, 1)


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_evaluation_visits_each_held_out_scene_once(tmp_path, batch_size):
    settings = config(cache_directory=str(tmp_path), synthetic=dataclasses.replace(
        SYNTHETIC, num_scenes=10))  # fmt: skip
    batches = list(evaluation_loader(settings, 3, batch_size))
    assert np.concatenate([batch["scene_index"] for batch in batches]).tolist() == [0, 1, 2]
    held_out = dataclasses.replace(SYNTHETIC, split="eval", num_scenes=3)
    first = SyntheticScenes(held_out, tmp_path)[0]
    pictures = {image.tobytes() for image in first.read(np.arange(9)).image}
    for half in ("input", "target"):
        assert {image.tobytes() for image in batches[0][f"{half}_image"][0]} <= pictures
    again = evaluation_loader(settings, 3, batch_size)
    for one, two in zip(batches, again, strict=True):
        assert_same(one, two)
    with pytest.raises(InputError, match="num_scenes=0"):
        evaluation_loader(settings, 0)
