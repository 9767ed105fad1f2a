"""Mirrored items and cut-outs are consistent, backgrounds are what they would have been; options
that are off change nothing."""

import dataclasses

import numpy as np
import pytest

from tttlrm_jax.captures.capture import CaptureScene, read_capture
from tttlrm_jax.config import DataConfig, SyntheticConfig
from tttlrm_jax.core.errors import ConfigError, InputError
from tttlrm_jax.core.geometry.poses import pose_problem
from tttlrm_jax.core.scenes import SceneViews
from tttlrm_jax.datasets.augmentation import cut_out, mirrored
from tttlrm_jax.datasets.pipeline import draw_item, make_loader
from tttlrm_jax.datasets.sources import open_source
from tttlrm_jax.datasets.synthetic_cache import SyntheticScenes, build_cache

SYNTHETIC = SyntheticConfig(num_scenes=1, num_views=8, height=40, width=56)
CONFIG = DataConfig(synthetic=SYNTHETIC, num_input_views=3, num_target_views=2)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    directory = tmp_path_factory.mktemp("cache")
    build_cache(SYNTHETIC, directory, progress=False)
    return directory


@pytest.fixture(scope="module")
def scene(directory):
    return SyntheticScenes(SYNTHETIC, directory)[0]


def points(views, poses, view):
    """World points and colours of covered pixels."""
    row, column = np.nonzero(views.depth[view])
    fx, fy, cx, cy = views.intrinsics[view]
    z = views.depth[view][row, column]
    local = np.stack([(column + 0.5 - cx) / fx * z, (row + 0.5 - cy) / fy * z, z], -1)
    return local @ poses[view, :3, :3].T + poses[view, :3, 3], views.image[view][row, column]


def test_a_mirrored_scene_is_the_scene_mirrored(scene):
    views, poses = scene.read(np.arange(3)), scene.world_from_camera[:3]
    views = dataclasses.replace(views, intrinsics=views.intrinsics + np.eye(4)[2])
    flipped, other = mirrored(views, poses)
    assert not any(map(pose_problem, other))
    for view in range(3):
        one, colour = points(views, poses, view)
        two, reflected = points(flipped, other, view)
        order = [np.lexsort(p.round(4).T) for p in (one * [-1, 1, 1], two)]
        np.testing.assert_allclose((one * [-1, 1, 1])[order[0]], two[order[1]], atol=2e-4)
        assert np.abs(colour[order[0]] - reflected[order[1]]).mean() < 1e-3
    again, back = mirrored(flipped, other)
    np.testing.assert_array_equal(again.image, views.image)
    np.testing.assert_array_equal(back, poses)


def test_off_changes_nothing_and_on_changes_training_only(scene):
    def item(seed, split="train", **options):
        config = dataclasses.replace(CONFIG, view_selection="kmeans", **options)
        return draw_item(scene, np.random.default_rng(seed), config, 0, split)

    plain, mirror = item(0), item(0, mirror_probability=1.0)
    np.testing.assert_array_equal(plain["input_image"][:, :, ::-1], mirror["input_image"])
    reverse = item(0, reverse_probability=1.0)
    np.testing.assert_array_equal(plain["input_image"][::-1], reverse["input_image"])
    same = item(0, "eval", mirror_probability=1.0, reverse_probability=1.0)
    np.testing.assert_array_equal(plain["input_image"], same["input_image"])
    shares = [item(k, mirror_probability=0.5)["input_image"] for k in range(20)]
    plains = [item(k)["input_image"] for k in range(20)]
    changed = [not np.array_equal(a, b) for a, b in zip(shares, plains, strict=True)]
    assert 3 < sum(changed) < 17
    with pytest.raises(ConfigError, match=r"data\.mirror_probability=2 is not in \[0, 1\]"):
        DataConfig(mirror_probability=2)


def ray_pictures(intrinsics, height, width):
    """Views whose pictures, masks and depth say where each pixel looks: 0.5 + 0.4 x/z and y/z."""
    row, column = np.meshgrid(np.arange(height) + 0.5, np.arange(width) + 0.5, indexing="ij")
    image = np.empty((len(intrinsics), height, width, 3), np.float32)
    for view, (fx, fy, cx, cy) in enumerate(intrinsics):
        image[view, ..., 0] = 0.5 + 0.4 * (column - cx) / fx
        image[view, ..., 1] = 0.5 + 0.4 * (row - cy) / fy
        image[view, ..., 2] = 0.25
    return SceneViews(image, np.asarray(intrinsics), image[..., 0].copy(), 1 + image[..., 1])


@pytest.mark.parametrize("size", [(40, 56), (24, 24), (64, 96)])
def test_intrinsics_of_cut_outs_are_exact(size):
    """Every pixel of a cut-out still looks where its camera says, also beside the picture's edges
    by less than the resampling filter reaches."""
    lenses = np.array([[50.0, 60.0, 29.0, 19.0], [70.0, 70.0, 28.0, 20.0]])
    views = ray_pictures(lenses, 40, 56)
    boxes = np.array([[3.25, 1.5, 3.25 + 40.0, 1.5 + 30.1], [12.7, 5.1, 12.7 + 35.0, 5.1 + 33.3]])
    ours = cut_out(views, boxes, size)
    expected = ray_pictures(ours.intrinsics, *size)
    edge = 4  # pixels in which the filter leans on the picture's border at most
    inner = np.s_[:, edge:-edge, edge:-edge]
    np.testing.assert_allclose(ours.image[inner], expected.image[inner], atol=2e-4)
    np.testing.assert_allclose(ours.mask[inner], expected.mask[inner], atol=2e-4)
    step = 0.4 / lenses[:, 1].min()  # depth is that of the nearest pixel
    np.testing.assert_allclose(ours.depth, expected.depth, atol=0.51 * step)


def test_cut_outs_of_training_items(scene):
    def item(seed, split="train", **options):
        config = dataclasses.replace(CONFIG, view_selection="kmeans", **options)
        return draw_item(scene, np.random.default_rng(seed), config, 0, split)

    whole, cut, again = item(3), item(3, min_crop=0.5), item(3, min_crop=0.5)
    for name, array in cut.items():
        assert array.shape == whole[name].shape
        np.testing.assert_array_equal(array, again[name])
    np.testing.assert_array_equal(cut["input_world_from_camera"], whole["input_world_from_camera"])
    zoom = cut["input_intrinsics"][:, :2] / whole["input_intrinsics"][:, :2]
    assert 1.0 < zoom.min() < 2.0
    np.testing.assert_allclose(zoom, zoom[0, 0], rtol=1e-5)  # one share for all views of the item
    assert np.ptp(cut["input_intrinsics"][:, 2]) > 1.0  # each at its own place
    held_out = item(3, "eval", min_crop=0.5, random_background=1.0)
    for name, array in item(3, "eval").items():
        np.testing.assert_array_equal(array, held_out[name])
    with pytest.raises(ConfigError, match=r"data\.min_crop=0 is not in \[0\.1, 1\]"):
        DataConfig(min_crop=0)


def test_captures_are_read_larger_where_pieces_are_cut_out(capture_directory):
    """Pieces of 0.5 of a picture still have the pixels of the file, not of a reduced copy."""
    config = DataConfig(
        source="captures", capture_directories=(str(capture_directory),), capture_height=15,
        capture_width=22, min_crop=0.5,
    )  # fmt: skip
    assert open_source(config, "train")[0].read(np.array([1])).image.shape == (1, 30, 44, 3)
    assert open_source(config, "eval")[0].read(np.array([1])).image.shape == (1, 15, 22, 3)


def test_backgrounds_are_those_a_source_would_have_composited(directory, scene):
    config = dataclasses.replace(CONFIG, random_background=1.0)
    item = draw_item(scene, np.random.default_rng(5), config)
    other = SyntheticScenes(SYNTHETIC, directory, tuple(item["background"].tolist()))[0]
    expected = draw_item(other, np.random.default_rng(5), CONFIG)
    for name in ("input_image", "target_image"):
        np.testing.assert_allclose(item[name], expected[name], atol=1e-6)
    assert item["background"].shape == (3,)
    colours = [
        tuple(draw_item(scene, np.random.default_rng(k), config)["background"]) for k in range(4)
    ]
    assert len(set(colours)) == 4
    half = dataclasses.replace(CONFIG, random_background=0.5)
    drawn = [draw_item(scene, np.random.default_rng(k), half)["background"] for k in range(20)]
    assert 3 < sum((colour == 1.0).all() for colour in drawn) < 17  # those keep white


def test_opaque_pictures_have_no_background_to_change(capture_directory):
    opaque = CaptureScene(
        read_capture(capture_directory), (30, 44), "lact", (1.0, 1.0, 1.0), use_mask=False
    )
    config = dataclasses.replace(CONFIG, random_background=0.5)
    with pytest.raises(InputError, match=r"data\.random_background=0\.5 needs to know"):
        draw_item(opaque, np.random.default_rng(0), config)


def test_augmented_batches_continue_exactly(directory):
    config = dataclasses.replace(
        CONFIG, cache_directory=str(directory), min_crop=0.6, random_background=0.5,
        mirror_probability=0.5, num_threads=0,
    )  # fmt: skip
    loader = make_loader(config, 1, 2)
    next(loader)
    state, expected = loader.get_state(), next(loader)
    assert expected["background"].shape == (2, 3)
    resumed = make_loader(config, 1, 2)
    resumed.set_state(state)
    for name, array in next(resumed).items():
        np.testing.assert_array_equal(array, expected[name])
