"""The recurrent network trains through `train.py`, resumes exactly, and is loaded again."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from tttlrm_jax.apps.export_model import main as export_main
from tttlrm_jax.apps.train import main, parse
from tttlrm_jax.checkpoints.models import load_model, load_ttt3r, trained_size
from tttlrm_jax.checkpoints.provenance import provenance_of
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.models import split_model
from tttlrm_jax.training.tasks.rooms import RoomBatches
from tttlrm_jax.training.trainer import train

TINY = Path(__file__).resolve().parents[2] / "runs" / "tiny_sequence_run.py"


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """A directory of runs, with one that has ended."""
    directory = tmp_path_factory.mktemp("runs")
    assert main([str(TINY), "--name", "whole", "--train.directory", str(directory)]) == 0
    return directory


def test_loss_falls_and_a_resumed_run_is_the_same(runs, tmp_path, capsys):
    directory = ["--train.directory", str(runs)]
    parts = parse([str(TINY), "--name", "parts", *directory])
    assert train(parts, stop_at=10).step == 10
    assert train(parts).finished
    lines = (runs / "whole" / "metrics.jsonl").read_text().splitlines()
    losses = [json.loads(line)["loss"] for line in lines]
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:3])
    models = [load_ttt3r(runs / name)[1] for name in ("whole", "parts")]
    leaves = [jax.tree.leaves(jax.tree.map(np.asarray, split_model(model)[1])) for model in models]
    for whole, parts in zip(*leaves, strict=True):
        np.testing.assert_array_equal(whole, parts)
    dest = tmp_path / "model"
    whole = ["--run", str(runs / "whole"), "--dest", str(dest), "--dtype", "bfloat16"]
    assert export_main(whole) == 0
    assert trained_size(dest) == trained_size(runs / "whole") is not None
    seen = "procedural box rooms at 24x16 pixels with 2 frames, 30 steps of 2 sequences (run whole)"
    assert provenance_of(dest) == provenance_of(runs / "whole") == seen
    exported = jax.tree.leaves(split_model(load_ttt3r(dest)[1])[1])
    for one, two in zip(leaves[0], exported, strict=True):
        np.testing.assert_allclose(one, two, rtol=2**-8)
    with pytest.raises(InputError, match="TTT3R"):
        load_model(runs / "whole")
    assert main([str(TINY), "--name", "whole", *directory, "--train.seed", "1"]) == 2
    assert "train.seed=1 (was 0)" in capsys.readouterr().err


def test_broken_pictures_end_the_run_and_are_kept(tmp_path, monkeypatch):
    config = parse([
        str(TINY), "--train.directory", str(tmp_path), "--train.max-nonfinite", "2",
        "--room.supersampling", "1",
    ])  # fmt: skip
    take = RoomBatches.take

    def broken(batches, step):
        arrays = take(batches, step)
        return arrays | {"images": arrays["images"] * np.nan} if step >= 3 else arrays

    monkeypatch.setattr(RoomBatches, "take", broken)
    with pytest.raises(InputError, match="not finite for 2 steps in a row, up to step 5") as caught:
        train(config)
    with np.load(str(caught.value).split("its batch is in ")[1].split(")")[0]) as saved:
        assert np.isnan(saved["images"]).all()
        assert np.isfinite(saved["points_self"]).all()


def test_a_run_starts_from_another_ones_weights(runs, tmp_path):
    common = [str(TINY), "--train.directory", str(tmp_path)]
    shutil.copytree(runs / "whole", tmp_path / "first")
    again = ["--train.init-from", str(tmp_path / "first"), "--optimizer.peak-lr", "1e-12"]
    train(parse([*common, "--name", "second", *again]), stop_at=1)
    models = [load_ttt3r(tmp_path / name)[1] for name in ("first", "second")]
    leaves = [jax.tree.leaves(split_model(model)[1]) for model in models]
    for one, two in zip(*leaves, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-9)
    shutil.rmtree(tmp_path / "first")
    resumed = train(parse([*common, "--name", "second", *again]), stop_at=2)
    assert resumed.step == 2
    with pytest.raises(InputError, match="first"):  # a new run needs what it starts from
        train(parse([*common, "--name", "third", *again]))
