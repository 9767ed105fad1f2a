"""Noise on positions: as large as Gaussians are, along their own axes, and only on faint ones."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tttlrm_jax.config.validation import ConfigError
from tttlrm_jax.core.geometry.rotations import rotation_from_quaternion
from tttlrm_jax.core.types import Gaussians
from tttlrm_jax.per_scene import AnytimeConfig, FitConfig
from tttlrm_jax.per_scene.exploration import FAINT, SHARPNESS, wandered
from tttlrm_jax.per_scene.loop import schedule_of

COUNT = 20_000


def many(opacity: float) -> Gaussians:
    """Copies of one long Gaussian that is turned."""
    each = Gaussians(
        mean=jnp.asarray([1.0, -2.0, 3.0]), sh=jnp.zeros((1, 3)),
        log_scale=jnp.log(jnp.asarray([0.5, 0.2, 0.1])),
        quaternion=jnp.asarray([0.8, 0.1, -0.5, 0.3]),
        opacity_logit=jax.scipy.special.logit(jnp.asarray(opacity)),
    )  # fmt: skip
    return jax.tree.map(lambda x: jnp.broadcast_to(x, (COUNT, *x.shape)), each)


def test_moves_have_the_square_of_the_covariance():
    gaussians, strength = many(FAINT), 3.0
    moves = np.asarray(wandered(gaussians, strength, jax.random.key(0)) - gaussians.mean)
    rotation = np.asarray(rotation_from_quaternion(gaussians.quaternion[:1]))[0]
    covariance = rotation @ np.diag([0.25, 0.04, 0.01]) @ rotation.T
    expected = (0.5 * strength) ** 2 * covariance @ covariance  # half is left at this opacity
    error = np.abs(moves.T @ moves / COUNT - expected).max()
    assert error < 0.04 * np.abs(expected).max()
    assert np.abs(moves.mean(axis=0)).max() < 0.02 * np.sqrt(expected.max())


def test_what_is_opaque_stays():
    still, gone = many(0.5), many(1e-4)
    moved = np.asarray(wandered(still, 3.0, jax.random.key(0)))
    np.testing.assert_array_equal(moved, still.mean)
    share = 1 / (1 + np.exp(-SHARPNESS * (FAINT - np.asarray([0.02, FAINT]))))
    faint, half = (
        np.asarray(wandered(many(o), 3.0, jax.random.key(0)) - gone.mean) for o in (0.02, FAINT)
    )
    np.testing.assert_allclose(
        np.abs(faint).mean() / np.abs(half).mean(), share[0] / share[1], rtol=0.01
    )


def test_settings():
    assert schedule_of(AnytimeConfig().fit).noise == AnytimeConfig().fit.noise > 0
    assert schedule_of(FitConfig(seed=3)) == dataclasses.replace(schedule_of(FitConfig()), seed=3)
    assert schedule_of(FitConfig()).noise == 0
    for wrong in (-1.0, float("inf")):
        with pytest.raises(ConfigError, match="noise"):
            FitConfig(noise=wrong)
