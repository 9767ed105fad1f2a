"""Parts of a batch over a mesh equal the whole batch on one device, averaged weights included."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from tests.sharding.scene import arrays_of, assert_close, parts_of, run_config
from tttlrm_jax.config import MeshConfig
from tttlrm_jax.core.errors import ConfigError
from tttlrm_jax.training.objectives.batches import batch_from_arrays
from tttlrm_jax.training.tasks.mesh_program import MeshProgram
from tttlrm_jax.training.update import init_train_state, train_step

ROUND_OFF = 1e-9  # of float64, after sums in another order and a Newton-Schulz iteration


def configured(directory: str, micro_batches: int, **mesh):
    config = run_config(directory)
    train = dataclasses.replace(config.train, micro_batches=micro_batches, ema_decay=0.5)
    return dataclasses.replace(config, train=train, mesh=MeshConfig(**mesh))


def scenes(directory: str) -> dict[str, np.ndarray]:
    """A batch of which one scene has hardly any depth: means of parts are not that of the whole."""
    arrays = dict(arrays_of(directory))
    arrays["input_depth"] = arrays["input_depth"].copy()
    arrays["input_depth"][1, :, 2:] = 0
    return arrays


@pytest.mark.parametrize("sizes", [(2, 2, 1), (1, 2, 2)])
def test_parts_over_a_mesh_equal_the_whole_on_one_device(tmp_path, sizes):
    whole = configured(str(tmp_path), 1)
    static, params = parts_of(run_config(str(tmp_path)))
    static = static._replace(config=whole)
    theirs, metrics = jax.jit(functools.partial(train_step, static=static))(
        init_train_state(params, whole), batch_from_arrays(scenes(str(tmp_path)))
    )
    data, seq, fsdp = sizes
    config = configured(str(tmp_path), 2, data=data, seq=seq, fsdp=fsdp)
    program = MeshProgram(static._replace(config=config))
    state = program.place(init_train_state(params, config))
    train = config.train
    batch = program.batch(scenes(str(tmp_path)), train.batch_size, train.chunk_views)
    ours, our_metrics = program.step(state, batch, None, train.chunk_views)
    assert_close({name: our_metrics[name] for name in metrics}, metrics, ROUND_OFF, "metrics")
    assert_close(ours.opt_state[0].mu, theirs.opt_state[0].mu, ROUND_OFF, "gradient ")
    assert_close(ours.params, theirs.params, ROUND_OFF, "parameters ")
    assert_close(ours.ema, theirs.ema, ROUND_OFF, "average ")
    pairs = zip(jax.tree.leaves(ours.ema), jax.tree.leaves(ours.params), strict=True)
    assert all(a.sharding.is_equivalent_to(p.sharding, p.ndim) for a, p in pairs)


def test_parts_too_small_for_the_mesh_are_refused(tmp_path):
    config = configured(str(tmp_path), 2, data=2, fsdp=2)
    static, _ = parts_of(run_config(str(tmp_path)))
    with pytest.raises(ConfigError, match=r"micro_batches=2 leaves 2 scenes for 2 x 2 devices"):
        MeshProgram(static._replace(config=config))
