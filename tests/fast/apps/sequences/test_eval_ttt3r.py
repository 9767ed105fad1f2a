"""`eval.py --model ttt3r` with a small network in a model directory, as a user runs it."""

import json

import numpy as np
import pytest

from tttlrm_jax.apps.reconstruct.command import main
from tttlrm_jax.checkpoints.models import export_ttt3r
from tttlrm_jax.config.data import WalkConfig
from tttlrm_jax.config.ttt3r import TTT3RConfig
from tttlrm_jax.models import build_model, split_model
from tttlrm_jax.procedural.walks import render_walk, strided, write_seven_scenes
from tttlrm_jax.sequences.readers import read_tum_trajectory

SMALL = TTT3RConfig(
    encoder_width=32, encoder_depth=1, encoder_heads=2, ray_encoder_depth=1, ray_encoder_heads=2,
    decoder_width=24, decoder_depth=2, decoder_heads=2, state_heads=2, num_state_tokens=9,
    memory_slots=4, memory_depth=1, memory_heads=2, head="linear", head_depth=1,
)  # fmt: skip


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """A model directory and a sequence of five frames."""
    folder = tmp_path_factory.mktemp("given")
    _, params = split_model(build_model(SMALL, seed=0))
    export_ttt3r(SMALL, params, folder / "model")
    write_seven_scenes(folder / "room", render_walk(1, 5, WalkConfig(height=32, width=48)))
    return folder


def evaluate(given, output, *arguments):
    code = main([
        "--model", "ttt3r", "--capture", str(given / "room"), "--checkpoint",
        str(given / "model"), "--size", "48", "--min-confidence", "1", "--output", str(output),
        *arguments,
    ])  # fmt: skip
    assert code == 0
    metrics = json.loads((output / "metrics.json").read_text())
    return metrics, read_tum_trajectory(output / "trajectory.txt")[1]


@pytest.mark.extended
def test_rules_and_resets_change_what_comes_later(given, tmp_path, capsys):
    metrics, gated = evaluate(given, tmp_path / "ttt3r")
    assert "5 frames, 48x32 pixels, rule ttt3r" in capsys.readouterr().out
    assert metrics["num_points"] == 5 * 32 * 48
    assert np.isfinite(metrics["trajectory"]["ate"])
    assert np.isfinite(metrics["depth"]["scale"]["abs_rel"])
    assert (tmp_path / "ttt3r" / "report.html").is_file()
    written, overwritten = evaluate(given, tmp_path / "cut3r", "--rule", "cut3r")
    assert written["rule"] == "cut3r"
    np.testing.assert_allclose(overwritten[:2], gated[:2], atol=1e-5)  # the first overwrites
    assert np.abs(overwritten[2:] - gated[2:]).max() > 1e-5
    _, again = evaluate(given, tmp_path / "reset", "--reset-every", "2")
    np.testing.assert_allclose(again[:2], gated[:2], atol=1e-5)
    assert np.abs(again[2:] - gated[2:]).max() > 1e-5


def test_without_a_checkpoint_the_packaged_network_sees_depth(tmp_path):
    """In a room of its kind; a wall 1 m deep is off by 0.15 there."""
    room = WalkConfig(height=48, width=64, compass=True, start_range=40.0, turn_speed=0.6)
    write_seven_scenes(tmp_path / "room", render_walk(2**31 + 5, 4, strided(room, 8)))
    arguments = ["--capture", str(tmp_path / "room"), "--output", str(tmp_path / "out")]
    assert main(["--model", "ttt3r", *arguments]) == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["checkpoint"] == "ttt3r_small"
    assert metrics["resolution"] == [48, 64]
    assert metrics["depth"]["scale"]["abs_rel"] < 0.13
    assert metrics["num_points"] > 0
    assert "trained on procedural box rooms" in metrics["notes"][0]


def test_another_kind_of_checkpoint_is_named(given, tmp_path, capsys):
    arguments = ["--model", "ttt3r", "--capture", str(given / "room"), "--size", "48"]
    for path in (tmp_path, given / "room"):
        assert main([*arguments, "--checkpoint", str(path), "--output", str(tmp_path / "o")]) == 2
        assert "Traceback" not in capsys.readouterr().err
    assert not (tmp_path / "o").exists()
