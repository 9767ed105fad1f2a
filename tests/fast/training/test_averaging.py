"""Averaged weights: the recursion by hand, refused steps, what evaluation and loading take."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.fast.training.test_step import CONFIG, DECAY, arrays, compiled_step, parts
from tttlrm_jax.checkpoints.directories import write_config
from tttlrm_jax.checkpoints.models import load_model
from tttlrm_jax.checkpoints.runs import RunCheckpoints
from tttlrm_jax.config import TrainConfig
from tttlrm_jax.core.errors import ConfigError
from tttlrm_jax.training.objectives.batches import batch_from_arrays
from tttlrm_jax.training.optimizer import initial_average, moved_average
from tttlrm_jax.training.update import init_train_state


@pytest.fixture(scope="module")
def run():
    return compiled_step()


def test_average_by_hand():
    average = moved_average(
        {"w": jnp.asarray([1.0])}, {"w": jnp.asarray([3.0])}, jnp.asarray(1), 0.9
    )
    np.testing.assert_allclose(average["w"], 1 + (1 - 2 / 11) * 2, rtol=1e-6)  # d = 2/11 < 0.9
    average = moved_average(
        {"w": jnp.asarray([1.0])}, {"w": jnp.asarray([3.0])}, jnp.asarray(1), 0.1
    )
    np.testing.assert_allclose(average["w"], 1 + 0.9 * 2, rtol=1e-6)


def test_average_of_narrow_parameters_is_float32():
    average = initial_average({"w": jnp.ones(3, jnp.bfloat16)})
    assert average["w"].dtype == jnp.float32
    moved = moved_average(average, {"w": jnp.full(3, 2, jnp.bfloat16)}, jnp.asarray(10**6), 0.9999)
    assert 0 < float(moved["w"][0] - 1) < 2e-4  # bfloat16 would not move at all


def test_steps_follow_the_recursion_and_evaluation_takes_the_average(run):
    function, state = run
    batch = batch_from_arrays(arrays())
    expected = jax.tree.map(np.asarray, state.params)
    for step in range(3):
        state, _ = function(state, batch)
        d = min(DECAY, (2 + step) / (11 + step))
        expected = jax.tree.map(lambda e, p, d=d: d * e + (1 - d) * p, expected, state.params)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
    jax.tree.map(close, state.ema, expected)
    assert state.evaluated is state.ema
    apart = [
        np.abs(a - b).max()
        for a, b in zip(*map(jax.tree.leaves, (state.ema, state.params)), strict=True)
    ]
    assert max(apart) > 1e-4


def test_refused_step_keeps_the_average(run):
    function, state = run
    state, _ = function(state, batch_from_arrays(arrays()))
    broken = arrays()
    broken["target_image"][0, 0, 0, 0, 0] = np.nan
    after, _ = function(state, batch_from_arrays(broken))
    jax.tree.map(np.testing.assert_array_equal, after.ema, state.ema)


def test_checkpoint_keeps_both_and_loading_gives_the_average(run, tmp_path):
    function, fresh = run
    state, _ = function(fresh, batch_from_arrays(arrays()))
    checkpoints = RunCheckpoints(tmp_path, keep=1)
    checkpoints.save(state, {"at": 1})
    checkpoints.wait()
    restored, _, _ = checkpoints.restore_newest(fresh)
    jax.tree.map(np.testing.assert_array_equal, restored, state)
    checkpoints.close()
    write_config(tmp_path, CONFIG)
    from tttlrm_jax.models import split_model

    _, loaded = split_model(load_model(tmp_path)[1])
    jax.tree.map(np.testing.assert_array_equal, loaded, state.ema)


def test_without_average_nothing_is_kept():
    _, params = parts()
    train = dataclasses.replace(CONFIG.train, ema_decay=0)
    state = init_train_state(params, dataclasses.replace(CONFIG, train=train))
    assert state.ema is None
    assert state.evaluated is state.params
    with pytest.raises(ConfigError, match=r"train\.ema_decay=1 is not in"):
        TrainConfig(ema_decay=1)
