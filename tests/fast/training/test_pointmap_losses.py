"""Pointmap and pose losses on numbers worked by hand."""

import jax
import jax.numpy as jnp
import numpy as np

from tttlrm_jax.core.arrays import on_device
from tttlrm_jax.training.losses.pointmaps import confident_regression, pose_errors, scene_scale

VALID = jnp.asarray([[[True, True, False]]])
TRUTH = on_device([[[[0.0, 0, 4], [3, 0, 4], [np.nan] * 3]]])
SCALE = jnp.asarray([2.0])


def test_scale_is_the_mean_distance_of_valid_points():
    scale = jax.jit(scene_scale)(TRUTH[None], VALID[None])
    np.testing.assert_allclose(scale, [4.5])


def test_regression_weighs_errors_by_confidence():
    points = jnp.asarray([[[[0.0, 0, 3], [3, 0, 4], [9, 9, 9]]]])
    confidence = on_device([[[2.0, np.e, 100.0]]])
    regress = jax.jit(lambda p, c: confident_regression(p, c, TRUTH, VALID, SCALE, 0.2))
    loss, error = regress(points, confidence)
    expected = (2 * 0.5 - 0.2 * np.log(2) + 0 - 0.2) / 2
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    np.testing.assert_allclose(error, 0.25)
    gradients = jax.jit(jax.grad(lambda p, c: regress(p, c)[0], argnums=(0, 1)))(points, confidence)
    assert all(np.isfinite(g).all() for g in gradients)  # exact and invalid points among them
    np.testing.assert_array_equal(gradients[0][0, 0, 1:], 0)


def test_pose_errors_take_the_nearer_quaternion():
    pose = jnp.asarray([[1.0, 0, 0, 1, 0, 0, 0]])
    opposite = jnp.asarray([[0.0, 0, 0, -0.6, 0, 0.8, 0]])
    translation, rotation = jax.jit(pose_errors)(pose, opposite, SCALE)
    np.testing.assert_allclose(translation, 0.5)
    np.testing.assert_allclose(rotation, np.hypot(0.4, 0.8), rtol=1e-6)
