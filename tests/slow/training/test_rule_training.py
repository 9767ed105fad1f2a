"""`train.py --rule NAME --rule.option value` trains with that rule; the causal run takes a step."""

import json
from pathlib import Path

import jax
import numpy as np

from tttlrm_jax.apps.train import load_config_file, main
from tttlrm_jax.checkpoints.directories import read_config
from tttlrm_jax.checkpoints.models import export_model, load_model
from tttlrm_jax.config import ModelConfig, RunConfig
from tttlrm_jax.models import abstract_model, build_model, split_model
from tttlrm_jax.training.initial import initial_parameters

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
TINY = {
    "model.d-model": 8, "model.num-layers": 1, "model.attention-head-dim": 4,
    "model.num-ttt-heads": 2, "model.ttt-inner-factor": 1.0, "model.mlp-factor": 1.0,
    "model.sh-degree": 0, "data.synthetic.num-scenes": 2, "data.synthetic.height": 8,
    "data.synthetic.width": 16, "data.synthetic.supersampling": 1, "data.num-target-views": 1,
    "data.num-threads": 0, "train.batch-size": 1, "train.eval-scenes": 1, "train.log-every": 1,
}  # fmt: skip


def train(workspace: Path, config: str, name: str, steps: int, *arguments: str) -> Path:
    """A finished run, its directory."""
    settings = TINY | {
        "train.directory": workspace / "runs", "data.cache-directory": workspace / "cache",
        "train.num-steps": steps, "train.eval-every": steps,
    }  # fmt: skip
    given = [f"--{key}={value}" for key, value in settings.items()]
    assert main([str(CONFIGS / config), "--name", name, *given, *arguments]) == 0
    return workspace / "runs" / name


def parameters(directory: Path) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(split_model(load_model(directory)[1])[1])]


def losses(directory: Path) -> list[float]:
    lines = (directory / "metrics.jsonl").read_text().splitlines()
    return [record["loss"] for record in map(json.loads, lines) if record["kind"] == "train"]


def test_two_steps_with_each_of_two_rules(tmp_path):
    """The same weights and pictures; only the rule differs, and it matters from the first step."""
    plan = [
        "--train.plan", "sequential", "--train.chunk-views", "1", "--raster.backend", "reference"
    ]  # fmt: skip
    elastic = train(
        tmp_path, "smoke.py", "elastic", 2, *plan, "--rule", "elastic", "--rule.strength", "0.4",
        "--rule.inner", "muon", "--rule.inner.steps", "1",
    )  # fmt: skip
    muon = train(tmp_path, "smoke.py", "muon", 2, *plan, "--rule", "muon", "--rule.steps", "1")
    rule = json.loads((elastic / "config.json").read_text())["model"]["rule"]
    assert rule == {
        "name": "elastic", "strength": 0.4, "fisher_decay": 0.5, "anchor_decay": 0.8,
        "inner": {"name": "muon", "steps": 1, "rate": 1.0},
    }  # fmt: skip
    for run in (elastic, muon):
        assert len(losses(run)) == 2
        assert np.isfinite(losses(run)).all()
    assert losses(elastic)[0] != losses(muon)[0]
    trained = parameters(elastic), parameters(muon)
    fresh = jax.tree.leaves(split_model(build_model(read_config(elastic).model))[1])
    for one, other, start in zip(*trained, fresh, strict=True):
        assert np.isfinite(one).all()
        assert one.shape == other.shape == start.shape
    assert any(not np.array_equal(one, other) for one, other in zip(*trained, strict=True))


def test_the_causal_configuration_starts_from_the_shipped_weights():
    config = load_config_file(CONFIGS / "quickstart_causal.py")
    assert isinstance(config, RunConfig)
    assert (config.train.plan, config.data.num_input_views) == ("causal", 8)
    _, expected = split_model(abstract_model(config.model))
    params = initial_parameters(str(config.train.init_from), expected)
    assert jax.tree.structure(params) == jax.tree.structure(expected)


def test_the_causal_configuration_takes_a_step_at_tiny_size(tmp_path):
    base = load_config_file(CONFIGS / "quickstart_causal.py")
    names = {key.split(".")[1].replace("-", "_"): key for key in TINY if key.startswith("model")}
    model = ModelConfig(**vars(base.model) | {name: TINY[key] for name, key in names.items()})
    start = split_model(build_model(model, seed=3))[1]
    directory = export_model(RunConfig(name="start", model=model), start, tmp_path / "start")
    run = train(
        tmp_path, "quickstart_causal.py", "causal", 1, "--train.init-from", str(directory),
        "--optimizer.warmup-steps", "0",
    )  # fmt: skip
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert np.isfinite(losses(run)).all()
    assert "psnr_after_08_views" in records[0]
    assert {f"psnr_after_0{views}_views" for views in (2, 4, 6, 8)} <= records[-1].keys()
    changes = [
        np.abs(ours - theirs).max()
        for ours, theirs in zip(parameters(run), jax.tree.leaves(start), strict=True)
    ]
    assert 0 < max(changes) < 0.01  # a step away from the weights it started from
