"""AdamW's schedule, its decay mask and the guard."""

import jax.numpy as jnp
import numpy as np
import pytest

from tttlrm_jax.config import ModelConfig, OptimizerConfig
from tttlrm_jax.models import build_model, split_model
from tttlrm_jax.training.optimizer import decayed, guarded_gradients, lr_schedule, make_optimizer

CONFIG = OptimizerConfig(
    peak_lr=1e-2, warmup_steps=10, clip_norm=1.0, skip_norm=4.0, guard_from_step=5
)


def test_schedule_warms_up_and_decays_to_zero():
    schedule = lr_schedule(CONFIG, 110)
    steps = [float(schedule(step)) for step in (0, 5, 10, 60, 110)]
    np.testing.assert_allclose(steps, [0, 5e-3, 1e-2, 5e-3, 0], atol=1e-8)


def test_only_matrices_decay():
    model = build_model(ModelConfig(d_model=32, num_layers=2, attention_head_dim=16, sh_degree=0))
    mask = decayed(split_model(model)[1])
    block = mask["blocks"]
    assert block["ttt"]["w0"]
    assert block["ttt"]["lr_fc"]["kernel"]
    assert block["mlp"]["c_fc"]["kernel"]
    assert mask["tokenizer"]["kernel"]
    assert not block["ttt"]["lr_fc"]["bias"]
    assert not block["ttt"]["o_norm"]
    assert not block["attention"]["q_norm"]
    assert not block["mlp_norm"]["weight"]
    assert not mask["input_norm"]["weight"]


def test_decay_moves_matrices_without_gradient_and_leaves_norms():
    params = {"kernel": jnp.ones((2, 2)), "weight": jnp.ones(2)}
    optimizer = make_optimizer(OptimizerConfig(peak_lr=1e-2, warmup_steps=0), 100)
    grads = {"kernel": jnp.zeros((2, 2)), "weight": jnp.zeros(2)}
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    np.testing.assert_allclose(updates["kernel"], -1e-2 * 0.05, rtol=1e-5)
    np.testing.assert_array_equal(updates["weight"], 0)


@pytest.mark.parametrize(
    ("norm", "loss", "step", "accepted", "factor"),
    [
        (0.5, 1.0, 9, True, 1.0),
        (2.0, 1.0, 9, True, 0.5),
        (5.0, 1.0, 9, False, 0.2),
        (5.0, 1.0, 4, True, 1.0),  # the guard is not up yet
        (np.nan, 1.0, 0, False, None),
        (0.5, np.nan, 0, False, 1.0),
        (np.inf, 1.0, 9, False, None),
    ],
)
def test_guard(norm, loss, step, accepted, factor):
    grads = {"a": jnp.array([norm, 0.0]), "b": jnp.zeros((2, 2))}
    clipped, found, accept = guarded_gradients(grads, jnp.float32(loss), jnp.int32(step), CONFIG)
    assert bool(accept) is accepted
    np.testing.assert_allclose(found, norm)
    if factor is not None:
        np.testing.assert_allclose(clipped["a"][0], norm * factor, rtol=1e-5)
