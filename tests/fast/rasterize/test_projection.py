"""EWA projection on cases worked by hand, culling, and finite zero derivatives."""

import jax
import jax.numpy as jnp
import numpy as np

from tttlrm_jax.config import RasterConfig
from tttlrm_jax.core.types import Splats
from tttlrm_jax.rasterize import project

HEIGHT, WIDTH = 40, 60
INTRINSICS = jnp.asarray([50.0, 25.0, 30.0, 20.0])


def cloud(mean, scale=0.1, opacity=1.0):
    mean = jnp.asarray(mean, jnp.float32)
    count = len(mean)
    return Splats(
        mean=mean,
        quaternion=jnp.tile(jnp.asarray([2.0, 0, 0, 0]), (count, 1)),
        scale=jnp.full((count, 3), scale),
        opacity=jnp.full(count, opacity),
        features=jnp.zeros((count, 1)),
    )


projected = jax.jit(project, static_argnums=(3, 4, 5))


def run(splats, config=RasterConfig(), matrix=None):  # noqa: B008
    matrix = jnp.eye(4) if matrix is None else matrix
    return projected(splats, matrix, INTRINSICS, HEIGHT, WIDTH, config)


def test_ball_on_the_axis():
    """A ball of deviation 0.1 at depth 2 is 50 * 0.1 / 2 by 25 * 0.1 / 2 pixels wide."""
    result = run(cloud([[0, 0, 2]]))
    variance = np.array([2.5**2 + 0.3, 0, 1.25**2 + 0.3])
    np.testing.assert_allclose(result.mean[0], [30, 20], rtol=1e-6)
    np.testing.assert_allclose(result.depth, 2)
    np.testing.assert_allclose(result.covariance[0], variance, rtol=1e-5)
    np.testing.assert_allclose(result.conic[0], [1 / variance[0], 0, 1 / variance[2]], rtol=1e-5)
    compensation = np.sqrt((2.5 * 1.25) ** 2 / (variance[0] * variance[2]))
    np.testing.assert_allclose(result.compensation[0], compensation, rtol=1e-5)
    np.testing.assert_array_equal(result.radius[0], np.ceil(3.33 * np.sqrt(variance[[0, 2]])))


def test_off_axis_covariance_follows_the_jacobian():
    """Within the field of view the covariance is J J^T s^2, J by automatic differentiation."""
    point = jnp.asarray([0.4, -0.5, 2.0])
    jacobian = np.asarray(jax.jacobian(lambda p: INTRINSICS[:2] * p[:2] / p[2])(point))
    expected = 0.01 * jacobian @ jacobian.T + 0.3 * np.eye(2)
    result = run(cloud([point]))
    np.testing.assert_allclose(result.covariance[0], expected[[0, 0, 1], [0, 1, 1]], rtol=1e-5)


def test_camera_moves_the_cloud():
    matrix = jnp.eye(4).at[:3, 3].set(jnp.asarray([0.1, 0.2, 3.0]))
    moved = run(cloud([[0.1, 0.2, 4.0]]))
    result = run(cloud([[0, 0, 1.0]]), matrix=matrix)
    np.testing.assert_allclose(result.mean, moved.mean, rtol=1e-6)
    np.testing.assert_allclose(result.conic, moved.conic, rtol=1e-6)


def test_culling():
    """Behind, on the camera plane, beyond the far plane, beside the image; then one in view."""
    means = [[0, 0, -1], [0.3, 0, 0], [0, 0, 9], [5, 0, 2], [0, 0, 2]]
    result = run(cloud(means), RasterConfig(far=8.0))
    np.testing.assert_array_equal(result.visible, [False, False, False, False, True])
    assert np.all(result.conic[:4] == 0)
    assert np.all(result.radius[:4] == 0)


def test_opacity_aware_radius():
    """At opacity e^2 / 255 alpha reaches 1 / 255 at two deviations; below 1 / 255 never."""
    faint = run(cloud([[0, 0, 2]], opacity=np.exp(2.0) / 255))
    deviation = np.sqrt([2.5**2 + 0.3, 1.25**2 + 0.3])
    np.testing.assert_array_equal(faint.radius_opacity_aware[0], np.ceil(2 * deviation))
    np.testing.assert_array_equal(faint.radius[0], np.ceil(3.33 * deviation))
    invisible = run(cloud([[0, 0, 2]], opacity=0.9 / 255))
    np.testing.assert_array_equal(invisible.radius_opacity_aware, 0)
    assert invisible.visible[0]


def test_clamped_field_of_view():
    """Far outside, the ratios stop at the image's edge plus 0.15 of its size."""
    result = run(cloud([[30.0, 0, 2.0]], scale=10.0))
    ratio = (60 - 30) / 50 + 0.15 * 60 / 50
    row = np.array([25, 0, -25 * ratio])
    assert result.visible[0]
    np.testing.assert_allclose(result.covariance[0, 0], 100 * row @ row + 0.3, rtol=1e-5)


def test_culled_and_broken_have_zero_finite_gradients():
    splats = cloud([[0, 0, 0], [0, 0, -1], [jnp.nan, 0, 2], [1e30, 1e30, 1], [0.1, 0, 2]])

    def loss(splats, matrix, intrinsics):
        p = project(splats, matrix, intrinsics, HEIGHT, WIDTH, RasterConfig())
        return sum(jnp.sum(x) for x in (p.mean, p.depth, p.conic, p.compensation))

    grads = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(splats, jnp.eye(4), INTRINSICS)
    for leaf in jax.tree.leaves(grads):
        assert np.all(np.isfinite(leaf))
    assert all(np.all(leaf[:4] == 0) for leaf in jax.tree.leaves(grads[0]))
    assert np.abs(grads[0].mean[4]).max() > 0
    assert np.abs(grads[1]).max() > 0
