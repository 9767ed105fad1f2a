"""Gaussians under a similarity: quaternions, SH by their definition, and the rendered picture."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tttlrm_jax.config import RasterConfig
from tttlrm_jax.core.arrays import on_device
from tttlrm_jax.core.geometry.poses import PoseNormalisation, look_at
from tttlrm_jax.core.geometry.similarity import sh_rotation, transform_gaussians
from tttlrm_jax.core.geometry.spherical_harmonics import evaluate_sh
from tttlrm_jax.core.types import Cameras, Gaussians
from tttlrm_jax.rasterize import render_views


def random_rotation(seed):
    matrix = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]
    return matrix * np.linalg.det(matrix)


@pytest.mark.parametrize("degree", range(5))
def test_colour_in_a_turned_direction_is_the_old_colour(degree):
    rng = np.random.default_rng(degree)
    coefficients, directions = rng.normal(size=((degree + 1) ** 2, 3)), rng.normal(size=(50, 3))
    rotation = random_rotation(degree)
    with jax.enable_x64(True):
        mixing = jax.jit(sh_rotation, static_argnums=1)(jnp.asarray(rotation), degree)
        turned = mixing @ jnp.asarray(coefficients)
        before, after = (
            jax.jit(evaluate_sh)(
                jnp.broadcast_to(values, (50, *values.shape)), jnp.asarray(directions @ turn)
            )
            for values, turn in ((jnp.asarray(coefficients), np.eye(3)), (turned, rotation.T))
        )
    np.testing.assert_allclose(after, before, atol=1e-12)
    mixing = np.asarray(mixing)
    np.testing.assert_allclose(mixing @ mixing.T, np.eye(len(mixing)), atol=1e-12)


@pytest.mark.parametrize("degree", [0, 3])
def test_rendering_does_not_change(degree):
    """Transformed Gaussians from transformed cameras: same colours and alpha, scaled depth."""
    rng = np.random.default_rng(7)
    count, scale = 40, 3.7
    similarity = PoseNormalisation(
        rotation=random_rotation(3), translation=np.array([5.0, -2.0, 1.0]), scale=scale
    )
    poses = look_at(
        np.array([[0.0, -1.0, -4.0], [3.0, 0.5, 2.0]]), np.zeros(3), np.array([0.0, -1.0, 0.0])
    )
    config = RasterConfig(backend="reference")

    @jax.jit
    def drawn(scene, cameras, background):
        return render_views(scene.activate(), cameras, background=background, config=config)

    with jax.enable_x64(True):
        gaussians = Gaussians(
            mean=on_device(rng.uniform(-1, 1, size=(count, 3))),
            sh=on_device(0.5 * rng.normal(size=(count, (degree + 1) ** 2, 3))),
            log_scale=on_device(rng.uniform(-3, -1, size=(count, 3))),
            quaternion=on_device(rng.normal(size=(count, 4))),
            opacity_logit=on_device(rng.normal(size=count)),
        )
        results = []
        for scene, where in (
            (gaussians, poses),
            (transform_gaussians(gaussians, similarity), similarity.apply_poses(poses)),
        ):
            intrinsics = jnp.asarray([[40.0, 42.0, 16.0, 12.0]] * 2)
            cameras = Cameras(jnp.asarray(where), intrinsics, 24, 32)
            background = jnp.ones(3)
            results.append(drawn(scene, cameras, background))
    before, after = results
    assert float(before.alpha.max()) > 0.5
    # Thresholds of the renderer may fall on the other side by rounding: 1/255 * colour at most.
    np.testing.assert_allclose(after.rgb, before.rgb, atol=1e-9)
    np.testing.assert_allclose(after.alpha, before.alpha, atol=1e-9)
    np.testing.assert_allclose(after.depth, scale * np.asarray(before.depth), atol=1e-8)


def test_inverse_restores_and_leading_axes_pass():
    rng = np.random.default_rng(1)
    similarity = PoseNormalisation(
        rotation=random_rotation(5), translation=np.array([1.0, 2.0, 3.0]), scale=0.2
    )
    with jax.enable_x64(True):
        gaussians = Gaussians(
            *(on_device(rng.normal(size=(2, 5, *s))) for s in ((3,), (9, 3), (3,), (4,), ()))
        )
        back = transform_gaussians(transform_gaussians(gaussians, similarity), similarity.inverse())
        for one, other in zip(jax.tree.leaves(back), jax.tree.leaves(gaussians), strict=True):
            assert one.dtype == "float64"
            np.testing.assert_allclose(one, other, atol=1e-10)
