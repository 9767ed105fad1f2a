"""The training step: refused steps change nothing, terms follow their weights, any shape works."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tttlrm_jax.config import (
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    RasterConfig,
    RunConfig,
    TrainConfig,
)
from tttlrm_jax.core.errors import ConfigError
from tttlrm_jax.core.types import Gaussians
from tttlrm_jax.models import build_model, split_model
from tttlrm_jax.training.objectives import batch_loss
from tttlrm_jax.training.objectives.batches import Batch, StaticParts, batch_from_arrays
from tttlrm_jax.training.objectives.gaussians import loss_terms
from tttlrm_jax.training.update import init_train_state, train_step

DECAY = 0.25  # of averaged weights, whose tests take the same step
MODEL = ModelConfig(
    d_model=16, num_layers=1, patch_size=4, attention_head_dim=8, num_ttt_heads=2,
    ttt_inner_factor=1.0, mlp_factor=1.0, sh_degree=1, max_distance=4.0, log_scale_offset=-3.0,
)  # fmt: skip
CONFIG = RunConfig(
    name="test",
    model=MODEL,
    raster=RasterConfig(near=0.1, backend="reference"),  # compiles sooner than tiles
    loss=LossConfig(opacity=0.01, depth=0.1, mask=0.3),
    optimizer=OptimizerConfig(peak_lr=1e-2, warmup_steps=0, guard_from_step=0, skip_norm=1e6),
    train=TrainConfig(
        num_steps=10, batch_size=2, keep_ratio=0.5, random_ratio=0.5, ema_decay=DECAY
    ),
)


def arrays(batch=2, views=2, targets=3, height=8, width=12) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)

    def half(prefix, count):
        pose = np.broadcast_to(np.eye(4, dtype=np.float32), (batch, count, 4, 4)).copy()
        pose[..., 0, 3] = rng.uniform(-0.2, 0.2, (batch, count))
        intrinsics = np.array([width, width, width / 2, height / 2], np.float32)
        return {
            f"{prefix}_image": rng.random((batch, count, height, width, 3), np.float32),
            f"{prefix}_mask": rng.random((batch, count, height, width), np.float32),
            f"{prefix}_depth": rng.uniform(1, 3, (batch, count, height, width)).astype("f4"),
            f"{prefix}_world_from_camera": pose,
            f"{prefix}_intrinsics": np.broadcast_to(intrinsics, (batch, count, 4)),
        }

    return half("input", views) | half("target", targets)


def parts(config: RunConfig = CONFIG):
    graph, params = split_model(build_model(config.model, seed=0))
    return StaticParts(graph, config), params


@functools.cache
def compiled_step():
    """(step, the state before the first one)."""
    static, params = parts()
    return jax.jit(functools.partial(train_step, static=static)), init_train_state(params, CONFIG)


@pytest.fixture(scope="module")
def step():
    return compiled_step()


def test_step_lowers_the_loss_on_its_batch(step):
    function, state = step
    batch = batch_from_arrays(arrays())
    losses = []
    for _ in range(8):
        state, metrics = function(state, batch)
        losses.append(float(metrics["loss"]))
    assert losses[-1] < 0.8 * losses[0]
    assert int(state.step) == 8
    assert int(state.num_skipped) == 0


def test_every_scene_has_its_own_background():
    """Where nothing is seen, a rendering shows the background of its scene."""
    batch = batch_from_arrays(arrays() | {"background": np.float32([[1, 0, 0.5], [0, 0.25, 1]])})
    shape = (2, 5)
    nothing = Gaussians(
        mean=jnp.ones((*shape, 3)), sh=jnp.ones((*shape, 4, 3)), log_scale=jnp.zeros((*shape, 3)),
        quaternion=jnp.ones((*shape, 4)), opacity_logit=jnp.full(shape, -30.0),
    )  # fmt: skip
    config = dataclasses.replace(
        CONFIG, loss=LossConfig(opacity=0.0, depth=0.0), train=TrainConfig()
    )
    function = jax.jit(functools.partial(loss_terms, config=config, key=jax.random.key(0)))
    terms, rendering = function(nothing, batch)
    expected = np.broadcast_to(batch.background[:, None, None, None], rendering.rgb.shape)
    np.testing.assert_allclose(rendering.rgb, expected, atol=1e-6)
    np.testing.assert_allclose(
        terms["mse"], np.mean((expected - np.asarray(batch.targets.image)) ** 2), rtol=1e-5
    )


def test_what_renderings_leave_out_is_logged(step):
    """An input image that is not finite makes Gaussians that are not."""
    function, state = step
    broken = arrays()
    _, metrics = function(state, batch_from_arrays(broken))
    assert int(metrics["num_dropped"]) == int(metrics["num_invalid"]) == 0
    broken["input_image"][0, 0, 0, 0, 0] = np.nan
    _, metrics = function(state, batch_from_arrays(broken))
    assert int(metrics["num_dropped"]) == 0
    assert int(metrics["num_invalid"]) > 0


def test_refused_step_changes_nothing_but_the_counters(step):
    function, state = step
    broken = arrays()
    broken["target_image"][0, 0, 0, 0, 0] = np.nan
    after, metrics = function(state, batch_from_arrays(broken))
    assert int(metrics["num_skipped"]) == 1
    assert int(after.step) == int(state.step) + 1
    before, now = (jax.tree.leaves((s.params, s.opt_state)) for s in (state, after))
    for old, new in zip(before, now, strict=True):
        np.testing.assert_array_equal(old, new)


def test_loss_is_the_weighted_sum_of_its_terms(step):
    function, state = step
    _, terms = function(state, batch_from_arrays(arrays()))
    weights = CONFIG.loss
    expected = sum(
        getattr(weights, name) * terms[name] for name in ("mse", "opacity", "depth", "mask")
    )
    np.testing.assert_allclose(terms["loss"], expected, rtol=1e-6)


def compiled_loss(static):
    return jax.jit(lambda params, batch, key: batch_loss(params, static, batch, key)[0])


@pytest.mark.parametrize(("term", "field"), [("depth", "input_depth"), ("mask", "target_mask")])
def test_a_term_without_its_data_is_refused(term, field):
    static, params = parts()
    batch: Batch = batch_from_arrays(arrays()).replace(**{field: None})
    with pytest.raises(ConfigError, match=rf"loss\.{term} is not 0"):
        jax.eval_shape(lambda: batch_loss(params, static, batch, jax.random.key(0)))


@pytest.mark.extended
def test_sequential_plan_one_view_and_other_sizes():
    config = dataclasses.replace(
        CONFIG, train=dataclasses.replace(CONFIG.train, plan="sequential", keep_ratio=1.0)
    )
    static, params = parts(config)
    function = compiled_loss(static)
    for shape in ({"views": 1, "batch": 1, "targets": 1}, {"height": 12, "width": 4, "views": 3}):
        batch = batch_from_arrays(arrays(**shape))
        assert np.isfinite(float(function(params, batch, jax.random.key(0))))


def test_batch_of_two_is_the_mean_of_singles():
    config = dataclasses.replace(
        CONFIG,
        model=dataclasses.replace(MODEL, newton_schulz_dtype="float32"),
        train=dataclasses.replace(CONFIG.train, keep_ratio=1.0),
    )
    static, params = parts(config)
    function = compiled_loss(static)
    both = arrays()
    key = jax.random.key(0)
    whole = function(params, batch_from_arrays(both), key)
    singles = [
        function(params, batch_from_arrays({k: v[i : i + 1] for k, v in both.items()}), key)
        for i in range(2)
    ]
    np.testing.assert_allclose(whole, jnp.mean(jnp.stack(singles)), rtol=1e-5)


def test_virtual_views_carry_the_gaussians_and_their_depth():
    """All inputs in another order are the same Gaussians; one input alone is another scene."""
    config = dataclasses.replace(CONFIG, train=TrainConfig(num_steps=10, batch_size=2))
    static, params = parts(config)
    loss = jax.jit(functools.partial(batch_loss, static=static, key=jax.random.key(0)))

    def terms(*places):
        index = {} if not places else {"virtual_index": np.array([places, places], np.int32)}
        return loss(params, batch=batch_from_arrays(arrays() | index))[1]

    usual, turned, one = terms(), terms(1, 0), terms(1)
    for name in ("loss", "mse", "depth", "opacity"):
        np.testing.assert_allclose(turned[name], usual[name], rtol=1e-5)
        assert abs(one[name] - usual[name]) > 1e-4 * abs(usual[name])
