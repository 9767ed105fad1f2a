"""The decoder's options for small object models: anchored distances and colour differences."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tttlrm_jax.config import ModelConfig
from tttlrm_jax.core.geometry.spherical_harmonics import evaluate_sh
from tttlrm_jax.core.types import Cameras, Gaussians, Views
from tttlrm_jax.models import build_model
from tttlrm_jax.models.decoders.gaussians import add_colour, ray_distance

CAMERA_ANCHOR = ModelConfig(max_distance=4.0)
ORIGIN_ANCHOR = dataclasses.replace(CAMERA_ANCHOR, distance_anchor="origin")


def test_range_starts_at_the_camera_or_surrounds_the_origin():
    origin = jnp.array([[0.0, 1.0, -5.0]] * 3)
    direction = jnp.array([[0.0, 0.0, 1.0]] * 3)
    share = jnp.array([[0.0], [0.5], [1.0]])
    from_camera = ray_distance(share, origin, direction, CAMERA_ANCHOR)[:, 0]
    around_origin = ray_distance(share, origin, direction, ORIGIN_ANCHOR)[:, 0]
    np.testing.assert_allclose(from_camera, [0, 2, 4])
    np.testing.assert_allclose(around_origin, [3, 5, 7])


def test_points_never_lie_behind_the_camera():
    origin, direction = jnp.array([[0.0, 0.0, 1.0]]), jnp.array([[0.0, 0.0, 1.0]])
    assert float(ray_distance(jnp.array([[0.2]]), origin, direction, ORIGIN_ANCHOR)[0, 0]) == 0


def test_zero_coefficients_show_the_pixels_colour():
    gaussians = Gaussians(
        mean=jnp.zeros((2, 3)), sh=jnp.zeros((2, 4, 3)), log_scale=jnp.zeros((2, 3)),
        quaternion=jnp.ones((2, 4)), opacity_logit=jnp.zeros(2),
    )  # fmt: skip
    colour = jnp.array([[0.0, 0.5, 1.0], [0.2, 0.3, 0.4]])
    shown = add_colour(gaussians, colour)
    direction = jax.random.normal(jax.random.key(0), (2, 3))
    np.testing.assert_allclose(evaluate_sh(shown.sh, direction) + 0.5, colour, atol=1e-6)


@pytest.mark.extended
def test_colours_follow_the_virtual_views_in_every_way_to_name_them():
    config = ModelConfig(
        d_model=16, num_layers=1, patch_size=2, attention_head_dim=8, ttt_inner_factor=1.0,
        mlp_factor=1.0, sh_degree=1, newton_schulz_dtype="float32", colour_residual=True,
        distance_anchor="origin", max_distance=1.0,
    )  # fmt: skip
    model = build_model(config)
    pose = jnp.broadcast_to(jnp.eye(4).at[2, 3].set(-1.0), (2, 3, 4, 4))
    cameras = Cameras(pose, jnp.full((2, 3, 4), 3.0), 4, 6)
    views = Views(jax.random.uniform(jax.random.key(1), (2, 3, 4, 6, 3)), cameras)
    indices = jnp.array([[2, 0], [1, 2]])
    chosen = jax.tree.map(lambda x: jnp.stack([x[b, indices[b]] for b in range(2)]), views)
    by_index = model(views, virtual_indices=indices)
    by_views = model(views, chosen)
    for ours, theirs in zip(jax.tree.leaves(by_index), jax.tree.leaves(by_views), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    plain = dataclasses.replace(config, colour_residual=False)
    difference = by_views.sh - build_model(plain)(views, chosen).sh
    np.testing.assert_allclose(difference[:, :, 1:], 0, atol=1e-6)
    colours = difference[:, :, 0] * 0.28209479177387814 + 0.5
    np.testing.assert_allclose(
        jnp.sort(colours.reshape(2, -1)), jnp.sort(chosen.image.reshape(2, -1)), atol=1e-5
    )
