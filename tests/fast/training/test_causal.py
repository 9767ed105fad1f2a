"""Autoregressive training: what is supervised after each chunk, with which weight, and when."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.fast.training.test_step import arrays
from tttlrm_jax.config import (
    DataConfig,
    LossConfig,
    ModelConfig,
    RasterConfig,
    RunConfig,
    TrainConfig,
)
from tttlrm_jax.core.arrays import on_device
from tttlrm_jax.core.errors import ConfigError
from tttlrm_jax.core.types import Cameras, Views
from tttlrm_jax.models import build_model, init_stream, query, split_into_chunks, split_model, step
from tttlrm_jax.training.objectives import batch_loss
from tttlrm_jax.training.objectives.batches import Batch, StaticParts
from tttlrm_jax.training.objectives.causal import chunk_views_at, loss_weights
from tttlrm_jax.training.objectives.gaussians import loss_terms, weighted_sum
from tttlrm_jax.training.tasks.mesh_program import MeshProgram

VIEWS, TARGETS, HEIGHT, WIDTH = 3, 1, 8, 12
CAUSAL = TrainConfig(plan="causal", chunk_views=2)
CONFIG = RunConfig(
    name="test",
    model=ModelConfig(
        d_model=8, num_layers=1, patch_size=4, attention_head_dim=4, num_ttt_heads=2,
        ttt_inner_factor=1.0, mlp_factor=1.0, sh_degree=0, max_distance=4.0,
        newton_schulz_dtype="float32",
    ),
    raster=RasterConfig(near=0.1, backend="reference"),  # compiles sooner than tiles
    data=DataConfig(num_input_views=VIEWS, num_target_views=TARGETS),
    loss=LossConfig(opacity=0.1, depth=0.1, mask=0.3),
    train=CAUSAL,
)  # fmt: skip


@pytest.fixture(scope="module")
def batch() -> Batch:
    rng = np.random.default_rng(0)

    def views(count):
        pose = np.tile(np.eye(4, dtype=np.float32), (2, count, 1, 1))
        pose[..., 0, 3] = rng.uniform(-0.2, 0.2, (2, count))
        lens = np.tile(np.float32([WIDTH, WIDTH, WIDTH / 2, HEIGHT / 2]), (2, count, 1))
        image = rng.random((2, count, HEIGHT, WIDTH, 3), np.float32)
        return Views(jnp.asarray(image), Cameras(jnp.asarray(pose), jnp.asarray(lens), 8, 12))

    return Batch(
        inputs=views(VIEWS),
        targets=views(TARGETS),
        target_mask=on_device(rng.random((2, TARGETS, HEIGHT, WIDTH), np.float32)),
        input_depth=on_device(rng.uniform(1, 3, (2, VIEWS, HEIGHT, WIDTH)), np.float32),
    )


def with_settings(**settings) -> RunConfig:
    return dataclasses.replace(CONFIG, train=dataclasses.replace(CAUSAL, **settings))


@functools.cache
def model_parts():
    return split_model(build_model(CONFIG.model, seed=0))


def first_views(batch: Batch, count: int) -> Batch:
    inputs = jax.tree.map(lambda x: x[:, :count], batch.inputs)
    return batch.replace(inputs=inputs, input_depth=batch.input_depth[:, :count])


def by_hand(batch: Batch, accumulate: str) -> list[dict]:
    """Terms after each of two chunks, from Gaussians of the views that have arrived alone."""
    graph, params = model_parts()
    chunks = split_into_chunks(batch.inputs, 2)
    state, appended, terms = init_stream(params, 2, graph=graph), [], []
    for t, count in enumerate((2, VIEWS)):
        chunk = jax.tree.map(lambda x, t=t: x[t], chunks)
        state, read = step(params, state, chunk, graph=graph)
        appended.append(read)
        prefix = first_views(batch, count)
        if accumulate == "all":
            shown = query(params, state, prefix.inputs, graph=graph)
        else:
            joined = jax.tree.map(lambda *x: jnp.concatenate(x, axis=1), *appended)
            shown = jax.tree.map(lambda x, n=count: x[:, : n * HEIGHT * WIDTH], joined)
        terms.append(loss_terms(shown, prefix, CONFIG, jax.random.key(0))[0])
    return terms


@pytest.mark.parametrize("accumulate", [pytest.param("all", marks=pytest.mark.extended), "append"])
def test_loss_after_every_chunk_is_that_of_the_views_so_far(batch, accumulate):
    graph, params = model_parts()
    terms = jax.jit(lambda: by_hand(batch, accumulate))()
    static = StaticParts(graph, with_settings(accumulate=accumulate, chunk_weights="linear"))
    loss, metrics = jax.jit(lambda: batch_loss(params, static, batch, jax.random.key(0)))()
    losses = [float(weighted_sum(each, CONFIG.loss)) for each in terms]
    np.testing.assert_allclose(loss, (losses[0] + 2 * losses[1]) / 3, rtol=1e-4)
    psnr = [-10 * np.log10(each["mse"]) for each in terms]
    np.testing.assert_allclose(metrics["psnr_after_02_views"], psnr[0], rtol=1e-4)
    np.testing.assert_allclose(metrics["psnr_after_03_views"], psnr[1], rtol=1e-4)
    assert metrics["psnr"] == metrics["psnr_after_03_views"]
    assert int(metrics["num_dropped"]) == int(metrics["num_invalid"]) == 0
    assert abs(losses[0] - losses[1]) > 1e-3  # the chunks do differ
    if accumulate == "all":
        program = MeshProgram(static)
        scores = program.evaluate(program.place_whole(params), arrays(2, VIEWS, TARGETS))[1]
        assert scores["psnr_after_02_views"].shape == (2,)
        np.testing.assert_array_equal(scores["psnr"], scores["psnr_after_03_views"])


def test_weights_of_chunks():
    np.testing.assert_allclose(loss_weights("uniform", 4), [0.25] * 4)
    np.testing.assert_allclose(loss_weights("linear", 3), np.array([1, 2, 3]) / 6)
    np.testing.assert_allclose(loss_weights("last", 3), [0, 0, 1])


def test_chunk_counts_are_drawn_by_step_and_seed_alone():
    settings = dataclasses.replace(CAUSAL, chunk_counts=(1, 2, 4))
    drawn = [chunk_views_at(settings, 8, step) for step in range(60)]
    assert drawn == [chunk_views_at(settings, 8, step) for step in range(60)]
    assert {drawn.count(size) > 8 for size in (8, 4, 2)} == {True}
    assert set(drawn) == {8, 4, 2}
    other = dataclasses.replace(settings, seed=1)
    assert drawn != [chunk_views_at(other, 8, step) for step in range(60)]
    assert chunk_views_at(CAUSAL, 8, 5) == 2
    full = dataclasses.replace(CAUSAL, plan="full", chunk_views=3)
    assert chunk_views_at(full, 8, 5) == 3


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"chunk_views": 4}, "exceeds data.num_input_views=3"),
        ({"chunk_counts": (2, 5)}, "train.chunk_counts=5"),
        ({"chunk_counts": (2,), "plan": "full"}, "is not read by train.plan=full"),
        ({"truncate_chunks": -1}, "train.truncate_chunks=-1"),
        ({"chunk_weights": "first"}, "train.chunk_weights=first"),
    ],
)
def test_bad_settings_are_refused(settings, words):
    with pytest.raises(ConfigError, match=words):
        with_settings(**settings)
