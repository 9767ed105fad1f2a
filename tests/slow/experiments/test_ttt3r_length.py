"""Errors against length: `python -m experiments.ttt3r_length`, and what it measures."""

import json

import numpy as np
import pytest

from experiments.ttt3r_length.__main__ import main
from experiments.ttt3r_length.recurrence import Traces, Variant, still_traces
from experiments.ttt3r_length.scores import frame_scores, prefix_scores
from experiments.ttt3r_length.walks import capture_walks, room_walks
from tttlrm_jax.checkpoints.models import export_ttt3r
from tttlrm_jax.config.data import WalkConfig
from tttlrm_jax.config.ttt3r import TTT3RConfig
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.geometry.pointmaps import unproject
from tttlrm_jax.models import build_model, split_model
from tttlrm_jax.procedural.walks import render_walk, write_seven_scenes

ROOM = WalkConfig(height=16, width=32, supersampling=1)
SMALL = TTT3RConfig(
    encoder_width=16, encoder_depth=1, encoder_heads=2, ray_encoder_depth=1, ray_encoder_heads=2,
    decoder_width=16, decoder_depth=2, decoder_heads=2, state_heads=2, num_state_tokens=4,
    memory_slots=2, memory_depth=1, memory_heads=2, head="linear", head_depth=1,
)  # fmt: skip


@pytest.fixture(scope="module")
def walks():
    return room_walks(2, 7, ROOM, stride=2)


def traces_of(walks, scale, drift):
    """The truth, `scale` as large, with rotations that drift by some degrees a frame."""
    poses = walks.first_from_camera.copy()
    poses[..., :3, 3] *= scale
    angle = np.radians(drift) * np.arange(len(poses))
    turn = np.tile(np.eye(4), (len(poses), 1, 1, 1))
    turn[:, 0, 0, 0], turn[:, 0, 0, 1] = np.cos(angle), -np.sin(angle)
    turn[:, 0, 1, 0], turn[:, 0, 1, 1] = np.sin(angle), np.cos(angle)
    points = np.stack(
        [
            unproject(walks.depth[:, scene], walks.intrinsics[scene])
            for scene in range(walks.images.shape[1])
        ],
        axis=1,
    )
    zero = np.zeros(walks.images.shape[:2])
    return Traces(
        poses=poses @ turn, points_self=(scale * points).astype(np.float32), change=zero,
        rates=zero[..., None], memory=zero,
    )  # fmt: skip


def test_the_truth_at_another_scale_has_no_error(walks):
    scores = prefix_scores(walks, traces_of(walks, 0.5, 0.0), [3, 7])
    for name, values in scores.items():
        assert values.shape == (2, 2)
        np.testing.assert_allclose(values, 0, atol=1e-4, err_msg=name)


def test_a_turning_camera_is_off_by_its_mean_angle(walks):
    scores = prefix_scores(walks, traces_of(walks, 1.0, 3.0), [3, 7])
    np.testing.assert_allclose(scores["rotation"], [[3.0, 3.0], [9.0, 9.0]], rtol=1e-6)
    np.testing.assert_allclose(scores["ate"], 0, atol=1e-6)
    assert (scores["points"][1] > 2 * scores["points"][0]).all()
    by_frame = frame_scores(walks, traces_of(walks, 1.0, 3.0))
    np.testing.assert_allclose(by_frame["rotation"], 3.0 * np.arange(7), atol=1e-5)


def test_a_still_camera_is_off_by_the_spread_of_the_walk(walks):
    scores = prefix_scores(walks, still_traces(walks), [7])
    places = walks.world_from_camera[:, :, :3, 3]
    spread = np.sqrt(((places - places.mean(axis=0)) ** 2).sum(axis=-1).mean(axis=0))
    np.testing.assert_allclose(scores["ate"][0], spread)
    assert (scores["abs_rel"] > 0.02).all()


def test_windows_of_a_capture_are_spread_over_it(tmp_path):
    write_seven_scenes(tmp_path / "room", render_walk(4, 8, WalkConfig(height=48, width=64)))
    walks = capture_walks(str(tmp_path / "room"), 3, 4, 64)
    assert walks.images.shape == (4, 3, 48, 64, 3)
    np.testing.assert_array_equal(walks.images[2:, 0], walks.images[:2, 1])  # start at 0, 2, 4
    np.testing.assert_array_equal(walks.images[2:, 1], walks.images[:2, 2])
    with pytest.raises(InputError, match="8 frames, fewer than 9"):
        capture_walks(str(tmp_path / "room"), 1, 9, 64)


def test_variants_are_a_rule_and_perhaps_resets():
    assert Variant.parse("cut3r@16") == Variant("cut3r", 16)
    assert str(Variant.parse("ttt3r")) == "ttt3r"
    for text in ("cut3r@0", "cut3r@x", "none"):
        with pytest.raises(InputError):
            Variant.parse(text)


def test_the_command_writes_results_and_charts(tmp_path, capsys):
    export_ttt3r(SMALL, split_model(build_model(SMALL, seed=0))[1], tmp_path / "model")
    write_seven_scenes(tmp_path / "room", render_walk(4, 6, WalkConfig(height=32, width=48)))
    code = main([
        "--checkpoint", str(tmp_path / "model"), "--capture", str(tmp_path / "room"), "--size",
        "64", "--scenes", "2", "--lengths", "5", "3", "--variants", "cut3r", "cut3r@2",
        "--output", str(tmp_path / "out"),
    ])  # fmt: skip
    assert code == 0
    assert "| ATE after Sim(3), m | 3 frames | 5 frames |" in capsys.readouterr().out
    result = json.loads((tmp_path / "out" / "results.json").read_text())
    assert set(result["rows"]) == {"still", "cut3r", "cut3r, reset every 2"}
    plain, again = (result["rows"][name] for name in ("cut3r", "cut3r, reset every 2"))
    assert np.abs(np.subtract(plain["ate"]["values"], again["ate"]["values"])).max() > 0
    paired = result["differences"]["cut3r, reset every 2"]["ate"]["mean"]
    np.testing.assert_allclose(paired, np.subtract(again["ate"]["mean"], plain["ate"]["mean"]))
    assert len(result["frames"]["cut3r"]["change"]) == 5
    assert (tmp_path / "out" / "length.png").is_file()
    assert (tmp_path / "out" / "frames.png").is_file()
    recorded = tmp_path / "out" / "results.json"
    assert main(["--draw", str(recorded), "--output", str(tmp_path / "again")]) == 0
    assert "| Change of the state: cut3r |" in capsys.readouterr().out
    for name in ("length.png", "frames.png", "results.json"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()


@pytest.mark.parametrize("pace", ["nan", "inf", "0"])
def test_a_pace_is_a_positive_number(pace, capsys):
    with pytest.raises(SystemExit):
        main(["--stride", pace])
    assert "is not a positive number" in capsys.readouterr().err


def test_results_to_draw_are_those_of_a_run(tmp_path, capsys):
    (tmp_path / "other.json").write_text('{"lengths": [8]}')
    for name, said in (("none.json", "cannot be read"), ("other.json", "has no checkpoint")):
        assert main(["--draw", str(tmp_path / name)]) == 2
        assert said in capsys.readouterr().err
