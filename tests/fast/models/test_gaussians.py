"""Raw channels to Gaussians."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tttlrm_jax.config import ModelConfig
from tttlrm_jax.core.arrays import on_device
from tttlrm_jax.core.geometry.rays import camera_rays
from tttlrm_jax.core.types import Cameras, Views
from tttlrm_jax.models.decoders.gaussians import (
    GaussianDecoder,
    gaussians_from_channels,
    num_channels,
    pixel_grid_of_gaussians,
)


def test_channels_by_hand():
    config = ModelConfig(sh_degree=1, max_distance=10.0)
    raw = jnp.arange(num_channels(1), dtype=jnp.float32)[None]
    assert raw.shape == (1, 23)
    origin, direction = jnp.asarray([[1.0, 0.0, 0.0]]), jnp.asarray([[0.0, 0.0, 1.0]])
    out = gaussians_from_channels(raw, origin, direction, config)
    distance = 10 / (1 + np.exp(-1.0))  # the mean of 0, 1, 2
    np.testing.assert_allclose(out.mean, [[1.0, 0.0, distance]], rtol=1e-6)
    np.testing.assert_array_equal(out.sh[0], np.arange(3, 15).reshape(4, 3))
    np.testing.assert_allclose(out.log_scale, [[-1.2, -1.2, -1.2]])  # 15 - 2.3 is above the limit
    np.testing.assert_array_equal(out.quaternion, [[18, 19, 20, 21]])
    np.testing.assert_array_equal(out.opacity_logit, [20.0])
    small = gaussians_from_channels(raw - 30, origin, direction, config)
    np.testing.assert_allclose(small.log_scale, [[-17.3, -16.3, -15.3]], rtol=1e-6)


@pytest.fixture
def case():
    config = ModelConfig(d_model=8, attention_head_dim=4, patch_size=2, sh_degree=0)
    rng = np.random.default_rng(0)
    pose = np.tile(np.eye(4, dtype=np.float32), (2, 3, 1, 1))
    pose[..., :3, 3] = rng.standard_normal((2, 3, 3))
    lens = np.tile(np.float32([5, 5, 3, 2]), (2, 3, 1))
    cameras = Cameras(jnp.asarray(pose), jnp.asarray(lens), height=4, width=6)
    views = Views(on_device(rng.uniform(size=(2, 3, 4, 6, 3)), np.float32), cameras)
    tokens = on_device(rng.standard_normal((2, 3, 6, 8)), np.float32)
    return GaussianDecoder(config, rngs=nnx.Rngs(0)), tokens, views


def test_every_gaussian_lies_on_the_ray_of_its_pixel(case):
    decoder, tokens, views = case
    gaussians = decoder(tokens, views)
    assert gaussians.mean.shape == (2, 3 * 4 * 6, 3)
    assert gaussians.sh.shape == (2, 72, 1, 3)
    grid = pixel_grid_of_gaussians(gaussians.mean, 4, 6, 2)
    origin, direction = camera_rays(views.cameras)
    distance = jnp.linalg.norm(grid - origin, axis=-1, keepdims=True)
    assert 0 < distance.min() < distance.max() < 500
    np.testing.assert_allclose(grid, origin + distance * direction, rtol=1e-4, atol=1e-3)


def test_centres_move_with_the_cameras(case):
    decoder, tokens, views = case
    shift = jnp.zeros((4, 4)).at[:3, 3].set(jnp.asarray([1.0, -2.0, 0.5]))[None, None]
    cameras = views.cameras.replace(world_from_camera=views.cameras.world_from_camera + shift)
    moved = decoder(tokens, views.replace(cameras=cameras))
    still = decoder(tokens, views)
    np.testing.assert_allclose(
        moved.mean - still.mean, np.broadcast_to([1.0, -2.0, 0.5], (2, 72, 3)), atol=1e-3
    )
    np.testing.assert_array_equal(moved.log_scale, still.log_scale)


def test_published_counts():
    assert [num_channels(degree) for degree in range(4)] == [14, 23, 38, 59]
