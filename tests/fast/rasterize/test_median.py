"""Median depth against sorting every Gaussian of every pixel."""

import jax
import jax.numpy as jnp
import numpy as np

from tttlrm_jax.config import RasterConfig
from tttlrm_jax.core.types import Cameras, Splats
from tttlrm_jax.rasterize import median, project_and_colour
from tttlrm_jax.rasterize.median import median_depth

HEIGHT, WIDTH, COUNT = 20, 28, 60


def scene() -> tuple[Splats, Cameras]:
    rng = np.random.default_rng(3)
    splats = Splats(
        mean=jnp.asarray(rng.uniform(-1, 1, (COUNT, 3)) + np.array([0, 0, 3]), jnp.float32),
        quaternion=jnp.asarray(rng.normal(size=(COUNT, 4)), jnp.float32),
        scale=jnp.asarray(rng.uniform(0.05, 0.4, (COUNT, 3)), jnp.float32),
        opacity=jnp.asarray(rng.uniform(0.1, 1, COUNT), jnp.float32),
        features=jnp.asarray(rng.random((COUNT, 3)), jnp.float32),
    )
    lens = jnp.asarray([25.0, 25.0, 0.5 * WIDTH, 0.5 * HEIGHT], jnp.float32)
    return splats, Cameras(jnp.eye(4, dtype=jnp.float32), lens, HEIGHT, WIDTH)


def test_tiles_all_at_once_as_one_after_another(monkeypatch):
    splats, camera = scene()
    found = jax.jit(median_depth)(splats, camera)
    monkeypatch.setattr(median, "_one_after_another", median._all_at_once)
    np.testing.assert_allclose(jax.jit(lambda *x: median_depth(*x))(splats, camera), found)


def test_median_depth_is_where_half_of_the_light_is_gone():
    splats, camera = scene()
    found = np.asarray(jax.jit(median_depth)(splats, camera))
    config = RasterConfig()
    screen = project_and_colour(splats, jnp.eye(4), camera.intrinsics, HEIGHT, WIDTH, config)
    mean, conic, opacity, depth = (
        np.asarray(x, np.float64)
        for x in (screen.mean, screen.conic, screen.opacity, screen.feature[:, -1])
    )
    order = np.argsort(depth, kind="stable")
    x, y = np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5)
    light, expected = np.ones((HEIGHT, WIDTH)), np.zeros((HEIGHT, WIDTH))
    unsure = np.zeros((HEIGHT, WIDTH), bool)  # within rounding of the half
    for i in order:
        dx, dy = mean[i, 0] - x, mean[i, 1] - y
        sigma = 0.5 * (conic[i, 0] * dx * dx + conic[i, 2] * dy * dy) + conic[i, 1] * dx * dy
        alpha = np.minimum(opacity[i] * np.exp(-sigma), config.max_alpha)
        after = light * (1 - np.where(alpha < config.min_alpha, 0.0, alpha))
        unsure |= np.abs(after - 0.5) < 1e-5
        expected[(light > 0.5) & (after <= 0.5)] = depth[i]
        light = after
    assert (expected > 0).mean() > 0.5
    assert (expected == 0).any()
    np.testing.assert_allclose(found[~unsure], expected[~unsure], rtol=1e-5)
