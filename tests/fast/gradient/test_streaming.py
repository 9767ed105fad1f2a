"""Gradients through a stream: the scan against one long program, truncation against the whole."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tttlrm_jax.config import ModelConfig, RuleConfig
from tttlrm_jax.core.types import Cameras, Views
from tttlrm_jax.models import (
    build_model,
    init_stream,
    scan_stream,
    split_into_chunks,
    split_model,
    step,
)

CONFIG = ModelConfig(
    d_model=8, num_layers=2, patch_size=4, attention_head_dim=4, num_ttt_heads=2,
    ttt_inner_factor=1.0, mlp_factor=1.0, sh_degree=0, max_distance=4.0,
    rule=RuleConfig.of("muon", steps=1),
    newton_schulz_dtype="float64", compute_dtype="float64", param_dtype="float64",
)  # fmt: skip
CHUNKS = 2
TOLERANCE = 1e-9  # the same float64 derivative, summed in another order


@pytest.fixture(autouse=True)
def _x64():
    with jax.enable_x64(True):
        yield


def make_chunks():
    """Two chunks of two views, the last view masked."""
    rng = np.random.default_rng(0)
    views, height, width = 3, 4, 8
    pose = np.tile(np.eye(4), (1, views, 1, 1))
    pose[..., :3, 3] = rng.standard_normal((1, views, 3))
    lens = np.tile([8.0, 8.0, width / 2, height / 2], (1, views, 1))
    image = rng.uniform(size=(1, views, height, width, 3))
    cameras = Cameras(jnp.asarray(pose), jnp.asarray(lens), height, width)
    return split_into_chunks(Views(jnp.asarray(image), cameras), 2)


def score(gaussians):
    """A number that depends on every parameter of the decoder."""
    return sum(jnp.mean(jnp.tanh(leaf)) for leaf in jax.tree.leaves(gaussians))


@functools.cache
def gradients(truncate):
    """Value, and derivatives to parameters and images, of the sum after all chunks."""
    graph, params = split_model(build_model(CONFIG, seed=1))
    chunks = make_chunks()

    @jax.jit
    def run(params, image):
        def loss(params, image):
            views = chunks.views.replace(image=image)
            moving, state = chunks.replace(views=views), init_stream(params, 1, graph=graph)
            if truncate != "unrolled":
                outs = scan_stream(
                    params, state, moving, graph=graph, truncate=truncate,
                    emit=lambda index, read: score(read),
                )[1]  # fmt: skip
                return jnp.sum(outs), outs
            outs = []
            for t in range(CHUNKS):
                chunk = jax.tree.map(lambda x, t=t: x[t], moving)
                state, read = step(params, state, chunk, graph=graph)
                outs.append(score(read))
            return sum(outs), jnp.stack(outs)

        return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(params, image)

    (_, outs), grads = run(params, chunks.views.image)
    return outs, grads


def largest_difference(a, b) -> float:
    apart = jax.tree.map(lambda x, y: float(jnp.abs(x - y).max()), a, b)
    return max(jax.tree.leaves(apart))


@pytest.mark.extended
def test_rematerialised_scan_equals_the_unrolled_stream():
    outs, grads = gradients(None)
    plain_outs, plain_grads = gradients("unrolled")
    np.testing.assert_allclose(outs, plain_outs, 0, TOLERANCE)
    assert largest_difference(grads, plain_grads) < TOLERANCE
    assert float(jnp.abs(grads[1]).max()) > 1e-4  # there is something to compare


@pytest.mark.extended
def test_truncation_that_covers_the_stream_is_the_full_gradient():
    outs, grads = gradients(None)
    covered_outs, covered = gradients(CHUNKS)
    np.testing.assert_array_equal(covered_outs, outs)
    assert largest_difference(covered, grads) == 0


@pytest.mark.extended
def test_shorter_truncation_changes_gradients_and_no_values():
    outs, grads = gradients(None)
    cut_outs, cut = gradients(1)
    np.testing.assert_allclose(cut_outs, outs, 0, TOLERANCE)
    # the last chunk lies behind the border: what it says of earlier images is left out
    assert largest_difference(cut[1][0], grads[1][0]) > 1e-6
    assert largest_difference(cut[1][1], grads[1][1]) < TOLERANCE
