"""Norms, MLP, attention and patches on cases worked by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.fast.cutting import cut
from tttlrm_jax.config import ModelConfig
from tttlrm_jax.core.arrays import on_device
from tttlrm_jax.core.types import Cameras
from tttlrm_jax.models.nn.attention import WindowAttention, attend
from tttlrm_jax.models.nn.layers import MLP, layer_norm, rms_norm
from tttlrm_jax.models.nn.tokens import patchify, pose_only_image, posed_image, unpatchify

CONFIG = ModelConfig(d_model=12, attention_head_dim=4, num_layers=1, patch_size=2)


def draw(*shape, seed=0):
    return on_device(np.random.default_rng(seed).standard_normal(shape), np.float32)


def test_layer_norm_by_hand():
    out = layer_norm(jnp.asarray([[1.0, 3.0]]), jnp.asarray([1.0, 10.0]))
    np.testing.assert_allclose(out, [[-1.0, 10.0]], rtol=1e-4)


def test_rms_norm_by_hand():
    out = rms_norm(jnp.asarray([[3.0, 4.0]]), jnp.asarray([1.0, 2.0]), eps=0.0)
    np.testing.assert_allclose(out, [[3 / 12.5**0.5, 8 / 12.5**0.5]], rtol=1e-6)


def test_norms_of_bfloat16_are_computed_in_float32():
    x = draw(2, 12).astype(jnp.bfloat16)
    assert layer_norm(x, jnp.ones(12)).dtype == jnp.float32
    wide = x.astype(jnp.float32)
    np.testing.assert_allclose(layer_norm(x, jnp.ones(12)), layer_norm(wide, jnp.ones(12)))


def test_mlp_uses_the_exact_gelu():
    mlp = MLP(CONFIG, projection_std=0.02, rngs=nnx.Rngs(0))
    mlp.c_fc.kernel[...] = jnp.eye(12, 48)
    mlp.c_proj.kernel[...] = jnp.eye(48, 12)
    x = jnp.linspace(-3, 3, 12, dtype=jnp.float32)[None]
    erf = jax.scipy.special.erf(x / np.float32(np.sqrt(2)))
    np.testing.assert_allclose(mlp(x), 0.5 * x * (1 + erf), atol=1e-6)


def test_attention_by_hand():
    """Two keys: the query matches the first with logit 2 / sqrt(1), the second with 0."""
    query, key, value = (
        jnp.asarray(x, jnp.float32).reshape(1, -1, 1, 1)
        for x in ([2.0, 0.0], [1.0, 0.0], [5.0, 9.0])
    )
    weight = np.exp(2.0) / (np.exp(2.0) + 1)
    out = attend(query, key, value, jnp.dtype("float32"))[0, :, 0, 0]
    np.testing.assert_allclose(out, [5 * weight + 9 * (1 - weight), 7.0], rtol=1e-6)


@pytest.mark.parametrize("causal", [False, True])
def test_attention_stays_in_its_window(causal):
    attention = WindowAttention(CONFIG, projection_std=0.5, causal=causal, rngs=nnx.Rngs(0))
    x = draw(2, 3, 5, 12)
    attend = jax.jit(attention)
    out = np.asarray(attend(x))
    np.testing.assert_allclose(out[1, 2], attend(cut(x, 1, 2)), atol=1e-6)
    more = np.float32([0, 0, 0, 0, 1])[:, None]
    changed = attend(np.asarray(x) + more)
    moved = np.abs(changed - out).max(axis=(0, 1, 3)) > 1e-6
    assert moved.tolist() == ([False] * 4 + [True] if causal else [True] * 5)


def test_attention_does_not_know_positions():
    attention = WindowAttention(CONFIG, projection_std=0.5, rngs=nnx.Rngs(0))
    x, order = draw(2, 5, 12), np.array([3, 0, 4, 1, 2])
    attend = jax.jit(attention)
    turned = cut(x, slice(None), order)
    np.testing.assert_allclose(attend(turned), np.asarray(attend(x))[:, order], atol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(4, 6), (6, 4), (2, 2)])
def test_patches_are_row_column_channel(height, width):
    row, column, channel = np.indices((height, width, 3))
    image = jnp.asarray(100 * row + 10 * column + channel, jnp.float32)[None]
    tokens = np.asarray(jax.jit(patchify, static_argnums=1)(image, 2))
    assert tokens.shape == (1, height * width // 4, 12)
    first = [0, 1, 2, 10, 11, 12, 100, 101, 102, 110, 111, 112]
    np.testing.assert_array_equal(tokens[0, 0], first)
    if width > 2:  # the second token is the patch to the right
        np.testing.assert_array_equal(tokens[0, 1], np.array(first) + 20)
    whole = jax.jit(unpatchify, static_argnums=(1, 2, 3))(tokens, height, width, 2)
    np.testing.assert_array_equal(whole, image)


def test_channels_of_a_posed_view():
    pose = jnp.eye(4).at[:3, 3].set(jnp.asarray([1.0, 2.0, 3.0]))
    cameras = Cameras(pose[None], jnp.asarray([[2.0, 2.0, 0.5, 0.5]]), height=2, width=2)
    image = jnp.full((1, 2, 2, 3), 0.75)
    channels = np.asarray(jax.jit(posed_image)(image, cameras))
    np.testing.assert_allclose(
        channels[0, 0, 0], [1, 2, 3, 0, 0, 1, 2, -1, 0, 0.5, 0.5, 0.5], atol=1e-6
    )
    without = np.asarray(jax.jit(pose_only_image)(cameras))
    np.testing.assert_array_equal(without[..., :9], channels[..., :9])
    assert not np.any(without[..., 9:])
