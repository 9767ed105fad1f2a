"""A run that trains streams logs every chunk and resumes exactly, chunk counts included."""

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np

from tttlrm_jax.apps.train import load_config_file
from tttlrm_jax.checkpoints.models import load_model
from tttlrm_jax.config import RasterConfig, RuleConfig, RunConfig
from tttlrm_jax.models import split_model
from tttlrm_jax.training.objectives.causal import chunk_views_at
from tttlrm_jax.training.trainer import train

SMOKE = Path(__file__).resolve().parents[3] / "configs" / "smoke.py"
STEPS, VIEWS = 4, 2


def stream_config(workspace: Path, name: str) -> RunConfig:
    base = load_config_file(SMOKE)
    synthetic = dataclasses.replace(
        base.data.synthetic, num_scenes=4, num_views=4, height=8, width=16, supersampling=1
    )
    return dataclasses.replace(
        base,
        name=name,
        model=dataclasses.replace(
            base.model, d_model=8, num_layers=1, attention_head_dim=4,
            rule=RuleConfig.of("muon", steps=1), sh_degree=0,
            ttt_inner_factor=1.0, mlp_factor=1.0,
        ),
        raster=RasterConfig(backend="reference"),  # compiles sooner than tiles
        data=dataclasses.replace(
            base.data, synthetic=synthetic, num_input_views=VIEWS, num_target_views=1,
            cache_directory=str(workspace / "cache"),
        ),
        train=dataclasses.replace(
            base.train, num_steps=STEPS, batch_size=1, log_every=1, eval_every=STEPS,
            eval_scenes=1, checkpoint_every=100, directory=str(workspace / "runs"),
            seed=3, plan="causal", chunk_counts=(1, 2), truncate_chunks=1, chunk_weights="linear",
        ),
    )  # fmt: skip


def parameters(directory: Path) -> list[np.ndarray]:
    _, model = load_model(directory)
    return [np.asarray(leaf) for leaf in jax.tree.leaves(split_model(model)[1])]


def test_resumed_stream_training_is_the_straight_one_bit_for_bit(tmp_path):
    straight, resumed = (stream_config(tmp_path, name) for name in ("straight", "resumed"))
    drawn = [chunk_views_at(straight.train, VIEWS, step) for step in range(STEPS)]
    assert set(drawn[2:]) == {1, 2}  # both happen after the interruption
    finished = train(straight)
    assert not train(resumed, stop_at=2).finished
    assert train(resumed).finished
    ours, theirs = parameters(tmp_path / "runs/resumed"), parameters(finished.directory)
    assert len(ours) == len(theirs) > 0
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)
    lines = (finished.directory / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    logged = [record for record in records if record["kind"] == "train"]
    assert [record["step"] for record in logged] == [1, 2, 3, 4]
    for record, chunk_views in zip(logged, drawn, strict=True):
        assert ("psnr_after_01_views" in record) == (chunk_views == 1)
        assert record["psnr"] == record["psnr_after_02_views"]
    assert {"psnr_after_01_views", "psnr_after_02_views"} <= records[-1].keys()
