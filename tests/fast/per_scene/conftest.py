"""A tiny scene: a few Gaussians photographed by cameras around them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tttlrm_jax.config import RasterConfig
from tttlrm_jax.core.geometry.poses import look_at
from tttlrm_jax.core.types import Cameras, Gaussians, Views
from tttlrm_jax.rasterize import render_views

RASTER = RasterConfig(near=0.1, backend="reference")  # compiles fastest
BACKGROUND = (1.0, 0.5, 0.0)
HEIGHT, WIDTH = 16, 20


@pytest.fixture(scope="session")
def truth() -> Gaussians:
    rng = np.random.default_rng(3)
    return Gaussians(
        mean=jnp.asarray(rng.normal(size=(20, 3)) * 0.3, jnp.float32),
        sh=jnp.asarray(rng.normal(size=(20, 1, 3)), jnp.float32),
        log_scale=jnp.asarray(rng.uniform(-2.5, -1.5, (20, 3)), jnp.float32),
        quaternion=jnp.asarray(rng.normal(size=(20, 4)), jnp.float32),
        opacity_logit=jnp.full(20, 2.0),
    )


@pytest.fixture(scope="session")
def views(truth) -> Views:
    rng = np.random.default_rng(4)
    centres = rng.normal(size=(5, 3))
    centres *= 2 / np.linalg.norm(centres, axis=1, keepdims=True)
    poses = look_at(centres, np.zeros(3), np.array([0.0, 0.0, 1.0]))
    cameras = Cameras(
        jnp.asarray(poses, jnp.float32),
        jnp.tile(jnp.asarray([[16.0, 16.0, WIDTH / 2, HEIGHT / 2]]), (5, 1)), HEIGHT, WIDTH,
    )  # fmt: skip
    draw = jax.jit(functools.partial(render_views, config=RASTER))
    image = draw(truth.activate(), cameras, background=jnp.asarray(BACKGROUND)).rgb
    return Views(image, cameras)
