"""The recurrent network trains through `train.py`, resumes exactly, and is loaded again."""

import json
import shutil
import textwrap

import jax
import numpy as np
import pytest

from tttlrm_jax.apps.export_model import main as export_main
from tttlrm_jax.apps.train import main, parse
from tttlrm_jax.checkpoints.models import load_model, load_ttt3r, trained_size
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.models import split_model
from tttlrm_jax.training.tasks import sequences as recurrent
from tttlrm_jax.training.tasks.sequences import train_recurrent

CONFIG = """
    from tttlrm_jax.config import OptimizerConfig
    from tttlrm_jax.config.ttt3r import TTT3RConfig
    from tttlrm_jax.procedural.walks import WalkConfig
    from tttlrm_jax.training.tasks.recurrent_config import RecurrentRunConfig, RecurrentTrainConfig

    CONFIG = RecurrentRunConfig(
        name="tiny",
        model=TTT3RConfig(
            patch_size=8, encoder_width=16, encoder_heads=2, encoder_depth=1, ray_encoder_depth=1,
            ray_encoder_heads=2, decoder_width=16, decoder_depth=2, decoder_heads=2, state_heads=2,
            num_state_tokens=4, memory_slots=2, memory_heads=2, memory_depth=1, mlp_factor=2.0,
            head="linear", head_depth=1,
        ),
        room=WalkConfig(height=16, width=24, supersampling=1),
        optimizer=OptimizerConfig(peak_lr=3e-3, warmup_steps=2, guard_from_step=0, skip_norm=1e4),
        train=RecurrentTrainConfig(
            num_steps=30, batch_size=2, frame_counts=(2,), log_every=1, eval_every=1000,
            eval_scenes=1, checkpoint_every=1000,
        ),
    )
"""


def test_loss_falls_and_a_resumed_run_is_the_same(tmp_path, capsys):
    path = tmp_path / "tiny.py"
    path.write_text(textwrap.dedent(CONFIG))
    runs = ["--train.directory", str(tmp_path / "runs")]
    assert main([str(path), "--name", "whole", *runs]) == 0
    parts = parse([str(path), "--name", "parts", *runs])
    assert train_recurrent(parts, stop_at=10).step == 10
    assert train_recurrent(parts).finished
    lines = (tmp_path / "runs" / "whole" / "metrics.jsonl").read_text().splitlines()
    losses = [json.loads(line)["loss"] for line in lines]
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:3])
    models = [load_ttt3r(tmp_path / "runs" / name)[1] for name in ("whole", "parts")]
    leaves = [jax.tree.leaves(jax.tree.map(np.asarray, split_model(model)[1])) for model in models]
    for whole, parts in zip(*leaves, strict=True):
        np.testing.assert_array_equal(whole, parts)
    dest = tmp_path / "model"
    whole = ["--run", str(tmp_path / "runs" / "whole"), "--dest", str(dest), "--dtype", "bfloat16"]
    assert export_main(whole) == 0
    assert trained_size(dest) == trained_size(tmp_path / "runs" / "whole") is not None
    exported = jax.tree.leaves(split_model(load_ttt3r(dest)[1])[1])
    for one, two in zip(leaves[0], exported, strict=True):
        np.testing.assert_allclose(one, two, rtol=2**-8)
    with pytest.raises(InputError, match="TTT3R"):
        load_model(tmp_path / "runs" / "whole")
    assert main([str(path), "--name", "whole", *runs, "--train.seed", "1"]) == 2
    assert "another train" in capsys.readouterr().err


def test_broken_pictures_end_the_run_and_are_kept(tmp_path, monkeypatch):
    path = tmp_path / "tiny.py"
    path.write_text(textwrap.dedent(CONFIG))
    config = parse([
        str(path), "--train.directory", str(tmp_path), "--train.max-nonfinite", "2",
        "--room.supersampling", "1",
    ])  # fmt: skip
    draw = recurrent._training_batch

    def broken(config, step):
        frames, truth = draw(config, step)
        return (
            (frames.replace(image=frames.image * np.nan), truth) if step >= 3 else (frames, truth)
        )

    monkeypatch.setattr(recurrent, "_training_batch", broken)
    with pytest.raises(InputError, match="not finite for 2 steps in a row, up to step 5") as caught:
        train_recurrent(config)
    with np.load(str(caught.value).split("its batch is in ")[1].split(")")[0]) as saved:
        assert np.isnan(saved["images"]).all()
        assert np.isfinite(saved["points_self"]).all()


def test_a_run_starts_from_another_ones_weights(tmp_path):
    path = tmp_path / "tiny.py"
    path.write_text(textwrap.dedent(CONFIG))
    common = [str(path), "--train.directory", str(tmp_path), "--train.num-steps", "1"]
    train_recurrent(parse([*common, "--name", "first"]))
    again = ["--train.init-from", str(tmp_path / "first"), "--optimizer.peak-lr", "1e-12"]
    train_recurrent(parse([*common, "--name", "second", *again]))
    models = [load_ttt3r(tmp_path / name)[1] for name in ("first", "second")]
    leaves = [jax.tree.leaves(split_model(model)[1]) for model in models]
    for one, two in zip(*leaves, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-9)
    shutil.rmtree(tmp_path / "first")
    resumed = train_recurrent(
        parse([*common, "--name", "second", *again, "--train.num-steps", "2"])
    )
    assert resumed.step == 2
    with pytest.raises(InputError, match="first"):  # a new run needs what it starts from
        train_recurrent(parse([*common, "--name", "third", *again]))
