"""Gradients from parts of a batch equal those of the whole, every term included."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from tests.fast.training.test_step import CONFIG, MODEL, arrays, parts
from tttlrm_jax.config import TrainConfig
from tttlrm_jax.core.errors import ConfigError
from tttlrm_jax.training.objectives.batches import batch_from_arrays
from tttlrm_jax.training.update import init_train_state, train_step

ROUND_OFF = 2e-5  # of float32 sums in another order through one update of fast weights


def uneven_arrays() -> dict[str, np.ndarray]:
    """Four scenes, of which one has next to no depth and another none at all."""
    batch = arrays(batch=4)
    batch["input_depth"][1, :, 1:] = 0
    batch["input_depth"][2] = 0
    return batch


def run_of(micro_batches: int, **train):
    config = dataclasses.replace(
        CONFIG,
        model=dataclasses.replace(MODEL, newton_schulz_dtype="float32"),
        train=dataclasses.replace(
            CONFIG.train, batch_size=4, micro_batches=micro_batches, ema_decay=0, **train
        ),
    )  # fmt: skip
    static, params = parts(config)
    step = jax.jit(functools.partial(train_step, static=static))
    return step(init_train_state(params, config), batch_from_arrays(uneven_arrays()))


CAUSAL = {"plan": "causal", "accumulate": "append"}


@pytest.mark.extended
@pytest.mark.parametrize("plan", [{}, CAUSAL])
def test_parts_equal_the_whole(plan):
    (whole, metrics), (ours, our_metrics) = run_of(1, **plan), run_of(2, **plan)
    assert metrics.keys() == our_metrics.keys()
    for name, value in metrics.items():
        np.testing.assert_allclose(our_metrics[name], value, rtol=1e-4, atol=1e-6, err_msg=name)
    moments = [state.opt_state[0].mu for state in (whole, ours)]  # 0.1 x the gradients
    for theirs, mine in zip(*map(jax.tree.leaves, moments), strict=True):
        scale = max(float(np.abs(theirs).max()), 1e-6)
        assert np.abs(theirs - mine).max() <= ROUND_OFF * scale


def test_parts_that_do_not_divide_the_batch_are_refused():
    with pytest.raises(ConfigError, match=r"train\.micro_batches=3 does not divide"):
        TrainConfig(batch_size=8, micro_batches=3)
