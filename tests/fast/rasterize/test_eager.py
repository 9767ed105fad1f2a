"""The eager renderer: any number of views, nothing dropped, programs kept."""

import jax.numpy as jnp
import numpy as np
import pytest

from tttlrm_jax.config import RasterConfig
from tttlrm_jax.core.arrays import on_device
from tttlrm_jax.core.geometry.poses import look_at
from tttlrm_jax.core.types import Cameras, Gaussians
from tttlrm_jax.rasterize import Renderer, in_parts


def test_frames_equal_views_whatever_the_portion(monkeypatch):
    """Rendering seven frames three at a time gives the pictures of rendering them at once, and by
    three threads those of one."""
    rng = np.random.default_rng(1)
    gaussians = Gaussians(
        mean=on_device(rng.normal(size=(30, 3)), np.float32),
        sh=on_device(rng.normal(size=(30, 1, 3)), np.float32),
        log_scale=jnp.full((30, 3), -1.0),
        quaternion=on_device(rng.normal(size=(30, 4)), np.float32),
        opacity_logit=jnp.full(30, 1.0),
    )
    poses = look_at(rng.normal(size=(7, 3)) * 5, np.zeros(3), np.array([0.0, 0.0, 1.0]))
    cameras = Cameras(
        on_device(poses, np.float32), jnp.tile(jnp.asarray([20.0, 20, 10, 8]), (7, 1)), 16, 20
    )
    config = RasterConfig(backend="reference")
    renderer = Renderer(background=(1.0, 0.0, 0.5), config=config)
    whole = np.asarray(renderer(gaussians, cameras).rgb)
    portions = [list(renderer.frames(gaussians, cameras, at_a_time=3))]
    monkeypatch.setattr(in_parts, "suitable_parts", lambda backend, capacity: 3)
    portions.append(list(renderer.frames(gaussians, cameras, at_a_time=3)))
    again = renderer(gaussians, cameras)
    assert again.num_dropped.shape == (7,)
    for pictures in (*portions, list(again.rgb)):
        assert len(pictures) == 7
        np.testing.assert_allclose(np.stack(pictures), whole, atol=1e-6)
    assert whole.std(axis=(1, 2, 3)).min() > 0.01


@pytest.mark.extended
def test_renderer_drops_nothing_in_scenes_after_the_first():
    """A scene with far more intersections than the one the program was made for."""
    rng = np.random.default_rng(2)
    pose = look_at(np.array([[0.0, -4.0, 0.0]]), np.zeros(3), np.array([0.0, 0.0, 1.0]))
    cameras = Cameras(
        jnp.asarray(pose, jnp.float32), jnp.asarray([[30.0, 30.0, 16.0, 16.0]]), 32, 32
    )

    def cloud(log_scale):
        return Gaussians(
            mean=on_device(rng.normal(size=(150, 3)), np.float32),
            sh=on_device(rng.normal(size=(150, 1, 3)), np.float32),
            log_scale=jnp.full((150, 3), log_scale),
            quaternion=on_device(rng.normal(size=(150, 4)), np.float32),
            opacity_logit=jnp.full(150, -3.0),
        )

    small, large = cloud(-5.0), cloud(0.0)
    shared, times = Renderer(background=(0.0, 0.0, 0.0)), []
    exact = Renderer(config=RasterConfig(backend="reference"))
    for scene in (small, large, small):
        result = shared(scene, cameras)
        times.append(shared.compile_seconds)
        assert int(result.num_dropped.max()) == 0
        np.testing.assert_allclose(result.rgb, exact(scene, cameras).rgb, atol=1e-4)
    assert times[0] != times[1] == times[2]  # compiled anew for more, never for less
    roomy = Renderer(background=(0.0, 0.0, 0.0))
    roomy(small, cameras, growth=4.0)
    first = roomy.compile_seconds
    np.testing.assert_array_equal(roomy(large, cameras).rgb, shared(large, cameras).rgb)
    assert roomy.compile_seconds == first  # there was room
