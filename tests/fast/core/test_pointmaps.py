"""Focal lengths, ray maps and points of depth."""

import numpy as np
import pytest

from tttlrm_jax.core.geometry.alignment import transform_points, weighted_rigid_fit
from tttlrm_jax.core.geometry.pointmaps import median_focal, ray_map, unproject, weiszfeld_focal

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("find", [weiszfeld_focal, median_focal])
def test_the_focal_length_is_found_among_outliers(find):
    depth = RNG.uniform(1, 3, (2, 24, 34))
    points = unproject(depth, np.array([30.0, 30.0, 17.0, 12.0]), centre=0.0)
    points[:, :4, :, :2] *= 1.4
    points[:, 5, 5] = 0.0  # no ratio
    np.testing.assert_allclose(find(points), 30, rtol=5e-3)


def test_rays_begin_where_the_camera_is():
    pose = np.eye(4)
    pose[:3, 3] = [1.0, 2.0, 3.0]
    lens = np.array([[10.0, 0, 4], [0, 12.0, 3], [0, 0, 1]])
    rays = ray_map(np.eye(4), pose, lens, 6, 8)
    np.testing.assert_allclose(rays[..., :3], np.broadcast_to([1.0, 2, 3], (6, 8, 3)))
    np.testing.assert_allclose(np.linalg.norm(rays[..., 3:], axis=-1), 1)
    middle = np.array([1.0, 2.0, 4.0])  # (0, 0, 1) with the translation in it
    np.testing.assert_allclose(rays[3, 4, 3:], middle / np.linalg.norm(middle))
    own = ray_map(pose, pose, lens, 6, 8)
    np.testing.assert_allclose(own[3, 4], [0, 0, 0, 0, 0, 1], atol=1e-12)


def test_weights_choose_what_counts():
    source = RNG.normal(size=(30, 3))
    motion = np.eye(4)
    motion[:3, :3] = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    motion[:3, 3] = [1, 2, 3]
    target = transform_points(motion, source)
    target[20:] += 5 * RNG.normal(size=(10, 3))
    weight = np.ones(30)
    weight[20:] = 0
    np.testing.assert_allclose(weighted_rigid_fit(source, target, weight), motion, atol=1e-9)


@pytest.mark.parametrize("shape", [(3,), (5, 3), (4, 5, 3)])
def test_transforms_take_any_number_of_points(shape):
    points = RNG.normal(size=shape)
    motion = np.eye(4)
    motion[:3, 3] = [1, 2, 3]
    np.testing.assert_allclose(transform_points(motion, points), points + np.array([1, 2, 3]))
    both = transform_points(np.stack([motion, np.eye(4)]), np.stack([points, points]))
    np.testing.assert_allclose(both[0], points + np.array([1, 2, 3]))
    np.testing.assert_allclose(both[1], points)
