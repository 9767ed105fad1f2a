"""Losses on cases worked by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tttlrm_jax.core.arrays import on_device
from tttlrm_jax.training.losses import terms
from tttlrm_jax.training.losses.terms import (
    disparity_of_points,
    mean_squared_error,
    opacity_loss,
    psnr_of_mse,
    smooth_l1,
)

depth_loss = jax.jit(terms.depth_loss, static_argnames="metric")
relative_disparity = jax.jit(terms.relative_disparity)


def test_psnr_of_known_errors():
    np.testing.assert_allclose(psnr_of_mse(jnp.array([1.0, 0.1, 0.001])), [0, 10, 30], atol=1e-5)


def test_mean_squared_error_and_opacity():
    assert float(mean_squared_error(jnp.array([1.0, 2.0]), jnp.array([0.0, 4.0]))) == 2.5
    np.testing.assert_allclose(opacity_loss(jnp.array([0.0, 0.0])), 0.5)


def test_disparity_clamps_points_behind_the_camera():
    points = jnp.array([[[[0.0, 0.0, 2.0], [5.0, 0.0, -1.0]]]])  # one view of 1x2 pixels
    camera_from_world = jnp.eye(4)[None].at[0, 2, 3].set(2.0)
    np.testing.assert_allclose(
        disparity_of_points(points, camera_from_world), [[[0.25, 1.0]]], rtol=1e-6
    )
    np.testing.assert_allclose(
        disparity_of_points(points - jnp.array([0, 0, 9.0]).reshape(1, 1, 1, 3), camera_from_world),
        [[[100.0, 100.0]]],
        rtol=1e-5,
    )


def test_relative_disparity_takes_the_lower_median():
    disparity = jnp.array([[1.0, 2.0], [4.0, 9.0]])  # median 2, mean |d - 2| = (1 + 0 + 2 + 7) / 4
    expected = (np.asarray(disparity) - 2.0) / 2.5
    np.testing.assert_allclose(relative_disparity(disparity), expected, rtol=1e-5)


def test_relative_disparity_ignores_pixels_that_do_not_count():
    disparity = jnp.array([[1.0, 2.0], [4.0, 1000.0]])
    valid = np.array([[True, True], [True, False]])
    expected = (np.array([1.0, 2.0, 4.0]) - 2.0) / 1.0
    ours = np.asarray(relative_disparity(disparity, valid))[valid]
    np.testing.assert_allclose(ours, expected, rtol=1e-5)


@pytest.mark.parametrize("metric", [False, True])
def test_depth_loss_without_valid_pixels_is_zero_with_zero_gradient(metric):
    points, pose = np.ones((1, 2, 2, 3), np.float32), np.eye(4, dtype=np.float32)[None]
    disparity, valid = np.ones((1, 2, 2), np.float32), np.zeros((1, 2, 2), bool)
    differentiate = jax.jit(jax.value_and_grad(functools.partial(depth_loss, metric=metric)))
    loss, grad = differentiate(points, pose, disparity, valid)
    assert float(loss) == 0
    np.testing.assert_array_equal(grad, 0)


def test_relative_depth_loss_forgives_scale_and_metric_does_not():
    rng = np.random.default_rng(0)
    depth = rng.uniform(1, 2, (1, 3, 5))
    points = on_device(np.stack([np.zeros_like(depth), np.zeros_like(depth), depth], -1))
    pose = jnp.eye(4)[None]
    disparity = jnp.asarray(3 / depth + 1)
    relative = depth_loss(points, pose, disparity)
    np.testing.assert_allclose(relative, 0, atol=1e-9)
    assert float(depth_loss(points, pose, disparity, metric=True)) > 1
    np.testing.assert_allclose(depth_loss(points, pose, 1 / points[..., 2], metric=True), 0)


def test_smooth_l1_joins_at_one():
    np.testing.assert_allclose(smooth_l1(jnp.array([0.5, -1.0, 1.0, 3.0])), [0.125, 0.5, 0.5, 2.5])
