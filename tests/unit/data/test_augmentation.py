"""Mirrored items are consistent; options that are off change nothing."""

import dataclasses

import numpy as np
import pytest

from tttlrm_jax.config import DataConfig, SyntheticConfig
from tttlrm_jax.data import SyntheticScenes, build_cache, draw_item
from tttlrm_jax.data.augmentation import mirrored
from tttlrm_jax.errors import ConfigError
from tttlrm_jax.geometry.poses import check_poses

SYNTHETIC = SyntheticConfig(num_scenes=1, num_views=8, height=40, width=56)
CONFIG = DataConfig(synthetic=SYNTHETIC, num_input_views=3, num_target_views=2)


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    directory = tmp_path_factory.mktemp("cache")
    build_cache(SYNTHETIC, directory, progress=False)
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
    check_poses(other)
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
