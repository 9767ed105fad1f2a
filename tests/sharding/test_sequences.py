"""A step of the recurrent network over a mesh equals one device's."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest

from tests.sharding.scene import assert_close
from tttlrm_jax.apps.train import load_config_file
from tttlrm_jax.config import MeshConfig
from tttlrm_jax.config.run import SequenceRunConfig
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.training.tasks.sequences import SequenceTask

ROUND_OFF = 1e-9  # of float64, after sums in another order
RUNS = Path(__file__).resolve().parents[1] / "runs"


def configured(**mesh: int) -> SequenceRunConfig:
    config = load_config_file(RUNS / "tiny_sequence_run.py")
    assert isinstance(config, SequenceRunConfig)
    model = dataclasses.replace(config.model, param_dtype="float64", compute_dtype="float64")
    settings = dataclasses.replace(config.train, ema_decay=0.5, eval_scenes=2)
    rates = dataclasses.replace(config.optimizer, warmup_steps=0)
    return dataclasses.replace(
        config, model=model, train=settings, optimizer=rates, mesh=MeshConfig(**mesh)
    )


def wide(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {k: x.astype(np.float64) if x.dtype == np.float32 else x for k, x in arrays.items()}


def after_one_step(directory, **mesh: int):
    """(state, metrics, scores of held-out rooms, pictures) of a run's first step."""
    task = SequenceTask(configured(**mesh), directory)
    state = task.init()
    batches = task.batches(lambda name, read: wide(read()))
    state, metrics, _ = task.step(state, wide(batches.take(0)), 0)
    return state, metrics, *task.evaluate(state.evaluated)


@pytest.fixture(scope="module")
def one_device(tmp_path_factory):
    return after_one_step(tmp_path_factory.mktemp("run"))


@pytest.mark.parametrize("axis", ["data", pytest.param("fsdp", marks=pytest.mark.extended)])
def test_a_step_and_its_evaluation_equal_one_devices(tmp_path, one_device, axis):
    ours = after_one_step(tmp_path, **{axis: 2})
    state, metrics, scores, pictures = one_device
    assert_close(ours[1], metrics, ROUND_OFF, "metrics")
    assert_close(ours[0].opt_state[0].mu, state.opt_state[0].mu, ROUND_OFF, "gradient ")
    moved = configured().optimizer.peak_lr  # by a step of Adam; biases of keys begin at 0 and stay
    for a, b in zip(*map(jax.tree.leaves, (ours[0], state)), strict=True):
        np.testing.assert_allclose(a, b, rtol=ROUND_OFF, atol=ROUND_OFF * moved)
    assert_close(ours[2], scores, ROUND_OFF, "scores")
    assert_close(ours[3], pictures, ROUND_OFF, "pictures")
    kernel = ours[0].params["head"]["pose"]["fc1"]["kernel"]
    held = kernel.addressable_shards[0].data.size
    assert held == kernel.size // (2 if axis == "fsdp" else 1)


def test_scenes_that_do_not_split_are_refused(tmp_path):
    with pytest.raises(InputError, match="batch_size=2 do not split over mesh axis 'data'"):
        SequenceTask(configured(data=4), tmp_path)
