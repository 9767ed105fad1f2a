"""Clouds against clouds on shapes whose answers are known."""

import numpy as np
import pytest
from scipy.spatial import cKDTree

from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.geometry.alignment import median_frame, placed_by_medians, transform_points
from tttlrm_jax.metrics.least_axes import least_axes
from tttlrm_jax.metrics.partners import Partners
from tttlrm_jax.metrics.point_clouds import (
    compare_clouds,
    estimate_normals,
    icp,
    reconstruction_errors,
    spatial_order,
    voxel_downsample,
)

RNG = np.random.default_rng(0)


def box_surface(count):
    """Points on three faces of a unit cube."""
    points = RNG.uniform(0, 1, (count, 3))
    points[np.arange(count), RNG.integers(0, 3, count)] = 0.0
    return points


def test_icp_undoes_a_small_motion():
    target = box_surface(3000)
    angle = 0.02
    motion = np.eye(4)
    motion[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    motion[:3, 3] = [0.01, -0.015, 0.02]
    found = icp(transform_points(motion, target), target)
    np.testing.assert_allclose(found.transform @ motion, np.eye(4), atol=5e-3)
    assert found.fitness == 1


def test_icp_without_partners_stays():
    found = icp(box_surface(50) + 10, box_surface(50))
    assert found.fitness == 0
    np.testing.assert_array_equal(found.transform, np.eye(4))


def test_normals_of_a_plane():
    points = RNG.uniform(0, 1, (200, 3)) * [1, 1, 0]
    normals = estimate_normals(points)
    np.testing.assert_allclose(np.abs(normals[:, 2]), 1, atol=1e-9)
    assert estimate_normals(points[:2]).shape == (2, 3)


def test_distances_of_two_planes():
    plane = np.stack(np.meshgrid(np.arange(20.0), np.arange(20.0), [0.0]), -1).reshape(-1, 3)
    up = np.tile([0.0, 0.0, 1.0], (400, 1))
    errors = compare_clouds(plane + np.array([0, 0, 0.3]), -up, plane, up)
    assert errors.accuracy.mean == pytest.approx(0.3)
    assert errors.chamfer == pytest.approx(0.3)
    assert errors.normal_consistency == pytest.approx(1)
    half = compare_clouds(plane[:200], up[:200], plane, up)
    assert half.accuracy.mean == 0
    assert half.completion.mean > 1  # what is missing counts one way only


def test_a_cloud_equals_itself():
    cloud = box_surface(500)
    errors = reconstruction_errors(cloud, cloud)
    assert errors.chamfer < 1e-9
    assert errors.normal_consistency == pytest.approx(1)


def test_voxels_hold_their_mean():
    points = np.array([[0.0, 0, 0], [0.1, 0, 0], [1.0, 0, 0]])
    np.testing.assert_allclose(voxel_downsample(points, 0.5), [[0.05, 0, 0], [1, 0, 0]])
    with pytest.raises(InputError, match="voxel size"):
        voxel_downsample(points, 0)


def test_pointmaps_are_placed_by_medians():
    true = RNG.normal(size=(2, 6, 8, 3)) + np.array([0, 0, 4])
    predicted = true * 0.4
    predicted[0, 0, 0] = 1e6  # not valid
    valid = np.ones((2, 6, 8), bool)
    valid[0, 0, 0] = False
    own, wanted = median_frame(predicted[valid]), median_frame(true[valid])
    placed = placed_by_medians(predicted, own, wanted)
    shift = np.median(true[valid][:, 2])
    expected = true.copy()
    np.testing.assert_allclose(placed[valid], expected[valid], atol=0.05 * shift)
    with pytest.raises(InputError, match="values=0 have no median"):
        median_frame(predicted[:0].reshape(-1, 3))


@pytest.mark.parametrize("bad", [np.zeros((0, 3)), np.full((4, 3), np.nan), np.zeros((4, 2))])
def test_bad_clouds_are_named(bad):
    with pytest.raises(InputError, match="predicted points"):
        reconstruction_errors(bad, box_surface(10))


def test_partners_of_moving_points_are_those_of_a_search():
    target, source = box_surface(800), box_surface(300) + np.array([0.0, 0.0, 0.02])
    tree = cKDTree(target)
    partners = Partners(tree, 0.1)
    for step in (0.0, 0.03, 0.005, 1e-3, 1e-4):
        source = source + step * np.array([1.0, -0.5, 0.7])
        near, partner, distance = partners.find(source)
        wanted, index = tree.query(source, distance_upper_bound=0.1)
        np.testing.assert_array_equal(near, np.flatnonzero(np.isfinite(wanted)))
        np.testing.assert_array_equal(partner, index[near])
        np.testing.assert_allclose(distance, wanted[near], rtol=1e-12)
    assert 300 < partners.searched < 5 * 300  # the last steps are too small to search again


def test_least_axes_are_those_of_lapack():
    spread = np.array([[3, 2, 0.1], [1, 1, 1e-9], [2, 1, 0.9999], [5, 1e-6, 1e-7], [1, 0, 0]])
    turn = np.linalg.qr(RNG.normal(size=(len(spread), 3, 3)))[0]
    matrix = turn @ (spread[:, :, None] * np.swapaxes(turn, 1, 2))
    value = np.linalg.eigvalsh(matrix)[:, 0]
    axis = least_axes(matrix)
    np.testing.assert_allclose(np.linalg.norm(axis, axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(
        np.einsum("ni,nij,nj->n", axis, matrix, axis), value, atol=1e-12, rtol=1e-9
    )
    np.testing.assert_allclose(np.abs(np.sum(axis[:3] * turn[:3, :, 2], axis=1)), 1, atol=1e-9)


def test_neighbours_in_space_are_neighbours_in_order():
    points = RNG.uniform(0, 1, (4000, 3))
    order = spatial_order(points)
    assert np.array_equal(np.sort(order), np.arange(4000))
    gap = np.linalg.norm(np.diff(points[order], axis=0), axis=1).mean()
    assert gap < 0.25 * np.linalg.norm(np.diff(points, axis=0), axis=1).mean()
