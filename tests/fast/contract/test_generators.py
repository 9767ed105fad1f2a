"""Promises of every entry of `GENERATORS`: shapes, same seed = same bits, exact depth."""

import dataclasses

import numpy as np
import pytest

from tests.gltf import write_models
from tttlrm_jax.config import SyntheticConfig
from tttlrm_jax.core.errors import ConfigError
from tttlrm_jax.core.geometry.poses import pose_problem
from tttlrm_jax.datasets.synthetic_cache import cache_path
from tttlrm_jax.procedural.generators import GENERATORS, render_scene

SMALL = SyntheticConfig(num_views=3, height=48, width=64)


@pytest.fixture(params=GENERATORS)
def config(request, tmp_path):
    of_models = {}
    if request.param == "models":
        of_models = {"models": (str(write_models(tmp_path / "m.zip")),), "models_credit": "CC0"}
    return dataclasses.replace(SMALL, generator=request.param, **of_models)


def points_of(scene, view):
    """World points [pixel, 3] of a view's covered pixels, from its z depth."""
    row, column = np.nonzero(scene["depth"][view])
    fx, fy, cx, cy = scene["intrinsics"][view]
    depth = scene["depth"][view][row, column].astype(np.float64)
    local = np.stack([(column + 0.5 - cx) / fx, (row + 0.5 - cy) / fy, np.ones_like(depth)], -1)
    pose = scene["world_from_camera"][view]
    return (local * depth[:, None]) @ pose[:3, :3].T + pose[:3, 3]


def test_shapes_types_and_reproducibility(config):
    scene, again, other = (render_scene(seed, config) for seed in (4, 4, 6))
    assert scene["image"].shape == (3, 48, 64, 4)
    assert scene["image"].dtype == np.uint8
    assert scene["depth"].shape == (3, 48, 64)
    assert scene["depth"].dtype == np.float32
    assert scene["world_from_camera"].dtype == scene["intrinsics"].dtype == np.float64
    assert not any(map(pose_problem, scene["world_from_camera"]))
    for name, array in scene.items():
        np.testing.assert_array_equal(array, again[name])
    assert not np.array_equal(scene["image"], other["image"])


@pytest.mark.parametrize("seed", [0, 1])
def test_depth_agrees_between_views(config, seed):
    """A point of one view is, in another, on the surface seen there or behind it."""
    config = dataclasses.replace(config, height=96, width=96, azimuth_span=60.0)
    scene = render_scene(seed, config)
    points, agreeing = points_of(scene, 0), 0.0
    for view in (1, 2):
        pose, (fx, fy, cx, cy) = scene["world_from_camera"][view], scene["intrinsics"][view]
        local = (points - pose[:3, 3]) @ pose[:3, :3]
        x, y = fx * local[:, 0] / local[:, 2] + cx, fy * local[:, 1] / local[:, 2] + cy
        inside = (x >= 1) & (x < 95) & (y >= 1) & (y < 95) & (local[:, 2] > 0)
        column, row = x[inside].astype(int), y[inside].astype(int)
        around = np.stack([
            scene["depth"][view][row + i, column + j] for i in (-1, 0, 1) for j in (-1, 0, 1)
        ])  # fmt: skip
        nearest = np.where(around > 0, around, np.inf).min(axis=0)
        assert (local[inside, 2] - nearest < -0.03).mean() < 0.01
        agreeing = max(agreeing, (np.abs(local[inside, 2] - around[4]) < 0.03).mean())
    assert agreeing > 0.2


def test_coverage_and_distances(config):
    """Objects stay in the unit ball and leave background; rooms fill every pixel."""
    for seed in range(3):
        scene = render_scene(seed, config)
        alpha, covered = scene["image"][..., 3], scene["depth"] > 0
        assert ((alpha > 0) | ~covered).all()
        assert (scene["image"][alpha == 0] == 0).all()
        distance = np.linalg.norm(scene["world_from_camera"][:, :3, 3], axis=1)
        assert (distance >= config.min_distance - 1e-9).all()
        if config.generator == "rooms":
            assert covered.all()
            assert (alpha == 255).all()
        else:
            assert (distance <= config.max_distance + 1e-9).all()
            assert 0.02 < covered.mean() < 0.9
            assert np.linalg.norm(points_of(scene, 0), axis=1).max() < 1.0 + 1e-3


def test_caches_from_before_the_choice_of_generators_are_found():
    """The name a cache of this configuration had when there was one generator."""
    path = cache_path(SyntheticConfig(num_views=12), "c")
    assert path.name == "train-64x64-927812f8a14b27c7"
    other = cache_path(SyntheticConfig(num_views=12, generator="rooms"), "c")
    assert other != path


def test_mesh_scenes_know_two_samples_along_a_pixel():
    with pytest.raises(ConfigError, match=r"synthetic\.supersampling=3 exceeds 2"):
        SyntheticConfig(generator="sculptures", supersampling=3)
