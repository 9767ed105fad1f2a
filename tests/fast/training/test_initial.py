"""A run that starts from other weights: gates of its rule are new, everything else is strict."""

import dataclasses

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from tttlrm_jax.checkpoints.models import export_model
from tttlrm_jax.config import ModelConfig, RuleConfig, RunConfig
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.models import build_model, split_model
from tttlrm_jax.training.initial import initial_parameters

PLAIN = ModelConfig(
    d_model=8, num_layers=2, patch_size=4, attention_head_dim=8, num_ttt_heads=2,
    ttt_inner_factor=1.0, mlp_factor=1.0, sh_degree=0,
)  # fmt: skip
GATED = dataclasses.replace(PLAIN, rule=RuleConfig.of("forget", gate="token", retention=0.8))


def fresh(model: ModelConfig, seed: int = 0):
    return split_model(build_model(model, seed))[1]


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    directory = tmp_path_factory.mktemp("weights") / "plain"
    config = RunConfig(name="plain", model=PLAIN)
    return export_model(config, fresh(PLAIN, 1), directory)


def test_missing_gates_start_at_the_rules_value_and_that_is_said(plain, caplog):
    params = flatten_dict(initial_parameters(plain, fresh(GATED)), sep="/")
    own = flatten_dict(fresh(GATED), sep="/")
    given = flatten_dict(fresh(PLAIN, 1), sep="/")
    gates = {name for name in own if "rule_gates" in name}
    assert gates
    assert params.keys() == given.keys() | gates
    for name, value in params.items():
        np.testing.assert_array_equal(value, own[name] if name in gates else given[name])
    bias = next(params[name] for name in gates if name.endswith("bias"))
    np.testing.assert_allclose(jax.nn.sigmoid(bias), 0.8, rtol=1e-6)
    assert all(name in caplog.text for name in gates)


def test_everything_else_is_strict(plain):
    deeper = dataclasses.replace(GATED, num_layers=3)
    with pytest.raises(InputError, match="another model"):
        initial_parameters(plain, fresh(deeper))
