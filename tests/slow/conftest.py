"""A tiny capture and a tiny, untrained checkpoint for the command-line tests."""

import pytest

from tttlrm_jax.apps.make_sample import SampleConfig, write_sample
from tttlrm_jax.checkpoints.models import export_model
from tttlrm_jax.config import DataConfig, ModelConfig, RunConfig, SyntheticConfig
from tttlrm_jax.models import build_model, split_model

SIZE = 32


@pytest.fixture(scope="session")
def tiny_run():
    return RunConfig(
        name="tiny",
        model=ModelConfig(
            d_model=32, num_layers=1, patch_size=8, attention_head_dim=16, sh_degree=1,
            max_distance=6.0, ttt_inner_factor=1.0,
        ),
        data=DataConfig(
            synthetic=SyntheticConfig(height=SIZE, width=SIZE, num_views=8), num_input_views=3
        ),
    )  # fmt: skip


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory, tiny_run):
    params = split_model(build_model(tiny_run.model, seed=1))[1]
    return export_model(tiny_run, params, tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def tiny_capture_source(tmp_path_factory):
    directory = tmp_path_factory.mktemp("captures") / "object"
    views = SyntheticConfig(
        split="eval", num_views=10, height=SIZE, width=SIZE + 16, max_primitives=2, supersampling=1
    )
    write_sample(SampleConfig(output=str(directory), object=views))
    return directory
