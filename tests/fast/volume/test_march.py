"""Rays in portions and blocks, with an early end, see what the plain reference sees."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tttlrm_jax.config.model import TriplaneConfig
from tttlrm_jax.volume import march
from tttlrm_jax.volume.march import march_plainly
from tttlrm_jax.volume.sampling import box_range, importance, stratified

CONFIG = TriplaneConfig(samples=12, importance_samples=14, rays_at_a_time=5)
BACKGROUND = jnp.array([0.9, 0.5, 0.1])


def ball(strength: jax.Array):
    """A soft ball of radius 0.6 whose colour depends on the place."""

    def field(points):
        inside = jax.nn.sigmoid(20 * (0.6 - jnp.sqrt(jnp.sum((points + 1e-3) ** 2, axis=-1))))
        return strength[0] * inside, jax.nn.sigmoid(strength[1] * points)

    return field


def rays(count: int, seed: int = 0) -> tuple[jax.Array, jax.Array]:
    """Some that meet the ball, the last one beside the box."""
    rng = np.random.default_rng(seed)
    origin = rng.normal(size=(count, 3))
    origin *= 3 / np.linalg.norm(origin, axis=1, keepdims=True)
    direction = rng.uniform(-0.5, 0.5, (count, 3)) - origin
    direction[-1] = np.cross(origin[-1], direction[-1])
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    return jnp.asarray(origin, jnp.float32), jnp.asarray(direction, jnp.float32)


@pytest.mark.parametrize("density", [2.0, 90.0])
def test_values_and_gradients_equal_the_reference(density):
    origin, direction = rays(7)
    strength, key = jnp.array([density, 3.0]), jax.random.key(3)
    weights = np.random.default_rng(1).normal(size=(7, 5)).astype(np.float32)

    def total(of):
        def value(strength, origin, background):
            seen = of(ball(strength), origin, direction, background, CONFIG, key)
            every = jnp.concatenate([seen.rgb, seen.alpha[:, None], seen.depth[:, None]], axis=1)
            return jnp.sum(every * weights), every

        return jax.jit(jax.value_and_grad(value, argnums=(0, 1, 2), has_aux=True))

    (_, ours), our_grads = total(march)(strength, origin, BACKGROUND)
    (_, plain), plain_grads = total(march_plainly)(strength, origin, BACKGROUND)
    np.testing.assert_allclose(ours, plain, atol=2e-5)
    np.testing.assert_allclose(ours[-1], [*BACKGROUND, 0, 0])
    assert np.abs(np.asarray(our_grads[0])).min() > 1e-4
    for found, expected in zip(our_grads, plain_grads, strict=True):
        np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-5)


def test_a_slab_absorbs_as_the_exponential_law_says():
    config = dataclasses.replace(CONFIG, samples=256, importance_samples=0, rays_at_a_time=1)
    slab = lambda points: (3.0 * (jnp.abs(points[..., 0]) < 0.25), 0.4 * jnp.ones_like(points))  # noqa: E731
    seen = march(slab, jnp.array([[-2, 0.1, 0]]), jnp.array([[1.0, 0, 0]]), BACKGROUND, config)
    alpha = 1 - np.exp(-1.5)
    np.testing.assert_allclose(seen.alpha, [alpha], atol=6e-3)
    np.testing.assert_allclose(seen.rgb[0], 0.4 * alpha + (1 - alpha) * BACKGROUND, atol=5e-3)
    assert 1.75 < float(seen.depth[0] / seen.alpha[0]) < 2.25


def test_samples_lie_in_the_box_and_where_something_was_met():
    origin, direction = rays(5)
    near, far = box_range(origin, direction, 1.0)
    assert float(far[-1] - near[-1]) == 0
    ends = np.stack([origin + t[:, None] * direction for t in (near, far)])
    np.testing.assert_allclose(np.abs(ends[:, :-1]).max(axis=-1), 1.0, atol=1e-5)
    inside = box_range(jnp.zeros((1, 3)), jnp.array([[0.0, 0, 1]]), 2.0)
    np.testing.assert_allclose(np.ravel(inside), [0.0, 2.0])
    middle = jnp.full((1, 8), 0.5)
    zero, one = jnp.zeros(1), jnp.ones(1)
    coarse = stratified(zero, one, middle)
    np.testing.assert_allclose(coarse[0], (np.arange(8) + 0.5) / 8, atol=1e-6)
    weight = jnp.zeros((1, 8)).at[0, 5].set(1.0)
    more = np.asarray(importance(coarse, weight, zero, one, jnp.full((1, 100), 0.5)))
    within = (more > 5 / 8) & (more < 6 / 8)
    assert within.mean() > 0.95
    assert (np.diff(more[0]) > 0).all()
    assert np.std(more[within]) == pytest.approx(1 / 8 / np.sqrt(12), rel=0.05)


def test_what_no_light_reaches_is_not_looked_at():
    looked = []

    def wall(points):
        jax.debug.callback(lambda: looked.append(1))
        return 1e4 * jnp.ones(points.shape[:-1]), jnp.ones_like(points)

    config = dataclasses.replace(CONFIG, samples=64, importance_samples=0)
    origin, direction = jnp.array([[0.0, 0, -2]]), jnp.array([[0.0, 0, 1]])
    march(wall, origin, direction, BACKGROUND, config).rgb.block_until_ready()
    jax.effects_barrier()
    assert len(looked) == 1  # of four blocks
