"""The laboratory's quick mode: one file with charts, and numbers that mean something."""

import dataclasses
import json
import math
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from experiments.statistics import mean_and_error
from experiments.update_rules import __main__ as update_rules
from experiments.update_rules.__main__ import main
from experiments.update_rules.cost import Layer, measure_cost
from experiments.update_rules.recall import error_by_distance, error_by_pairs
from experiments.update_rules.reconstruction import Reconstructions, Streams
from tttlrm_jax.checkpoints.models import export_model
from tttlrm_jax.config import RuleConfig
from tttlrm_jax.models import build_model, split_model
from tttlrm_jax.ttt.rules import RULES, override_rule


def read(directory):
    """The numbers, held to the JSON standard: no NaN."""

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    text = (directory / "update_rules.json").read_text()
    return json.loads(text, parse_constant=refuse)


def test_quick_run_writes_page_and_numbers(tmp_path, documented_rule):
    arguments = ["--quick", "--rules", "sgd", "forget(delta)", "unit_ascent"]
    arguments += ["--rule-file", str(documented_rule), "--output", str(tmp_path)]
    assert main(arguments) == 0
    results = read(tmp_path)
    assert results["finished"]
    assert set(results["rules"]) == {"forget(delta)", "sgd", "unit_ascent"}
    assert results["rules"]["unit_ascent"]["rate"] is None
    assert results["rules"]["sgd"]["rate"] in update_rules.QUICK_MEMORY.rates
    for rule in results["rules"].values():
        errors = rule["recall"]["error_by_pairs"]
        assert errors["mean"][0] < 0.9  # the first chunk alone is recalled better than by chance
        assert len(errors["mean"]) == len(rule["recall"]["pairs_seen"]) == 4
        np.testing.assert_allclose(rule["drift"]["norm"]["mean"], 1, atol=1e-3)
        assert 0 <= rule["cost"]["rule_share"][1] <= rule["cost"]["rule_share"][0] < 1
    page = (tmp_path / "update_rules.html").read_text()
    assert "http" not in page
    charts = page.split("<svg")[1:]
    assert len(charts) == 8
    for chart in charts:
        ElementTree.fromstring("<svg" + chart.split("</svg>")[0] + "</svg>")
        assert chart.count("<title>") == 3


def test_unknown_rules_are_an_error(tmp_path, capsys):
    assert main(["--quick", "--rules", "mun", "--output", str(tmp_path / "out")]) == 2
    assert "mun" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_output_that_cannot_be_written_is_refused_first(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(update_rules, "measure", None)  # never reached
    file = tmp_path / "file"
    file.write_text("mine")
    for output in (file, file / "below"):
        assert main(["--quick", "--rules", "sgd", "--output", str(output)]) == 2
        assert f"output={output}" in capsys.readouterr().err
    assert file.read_text() == "mine"


def diverged(rule, memory, layer, scenes):
    """A measurement of the right form whose numbers are not finite."""
    nothing = mean_and_error(np.full((2, 3), math.nan))
    recall = {"error_by_pairs": nothing, "error_by_distance": nothing, "retrieved": nothing}
    drift = dict.fromkeys(
        ("moved", "norm", "overlap", "first_chunk_error", "last_chunk_error"), nothing
    )
    cost = {"mflop_per_token": [1.0, 2.0, 3.0], "rule_share": [0.0, 0.0, 0.0]}
    return {
        "rate": 1.0,
        "recall": {"pairs_seen": [1, 2, 3], "pairs_since": [1, 2, 3], **recall},
        "drift": {"chunks": [1, 2, 4], **drift},
        "cost": {"views_per_chunk": [1, 2, 4], **cost},
        "reconstruction": None,
    }


def test_what_is_not_finite_is_null_and_what_was_measured_is_kept(tmp_path, monkeypatch, capsys):
    measured = iter([diverged])

    def once(*arguments):
        for measure in measured:
            return measure(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(update_rules, "measure", once)
    assert main(["--quick", "--rules", "sgd", "muon", "--output", str(tmp_path)]) == 130
    assert str(tmp_path) in capsys.readouterr().err
    results = read(tmp_path)
    assert not results["finished"]
    (rule,) = results["rules"].values()
    assert rule["recall"]["error_by_pairs"]["mean"] == [None] * 3
    page = (tmp_path / "update_rules.html").read_text()
    assert "not finished" in page
    assert "nan" not in page.split("</h1>")[1]


@pytest.mark.parametrize(
    ("views", "share", "to_rest"), [(1, 0.350, 0.537), (4, 0.118, 0.134)]
)  # fmt: skip
def test_share_of_newton_schulz_at_the_published_width_by_hand(views, share, to_rest):
    """Products alone: `X X^T`, its square and the polynomial times `X`, for three matrices; three
    products for the hidden units and three outer products for the gradient of each token."""
    layer = Layer(views=(views,))
    width, inner = layer.d_head, layer.d_hid
    newton_schulz = 3 * 5 * 2 * (2 * width**2 * inner + width**3)
    rest = 6 * 2 * width * inner * layer.tokens_per_view * views
    by_hand = newton_schulz / (newton_schulz + rest)
    np.testing.assert_allclose([by_hand, newton_schulz / rest], [share, to_rest], atol=6e-4)
    counted = measure_cost(RULES.complete(RuleConfig("muon")), layer)
    np.testing.assert_allclose(counted["rule_share"], by_hand, rtol=0.01)
    np.testing.assert_allclose(counted["rule_to_rest"], newton_schulz / rest, rtol=0.01)
    np.testing.assert_allclose(counted["gflop_per_update"], (newton_schulz + rest) / 1e9, rtol=0.01)


GATED = """
from tttlrm_jax.ttt import UpdateRule, register_rule
from tttlrm_jax.ttt.rules import forget


@register_rule
def gated(inner: UpdateRule, retention: float = 0.5) -> UpdateRule:
    \"\"\"A learned gate.\"\"\"
    return forget(inner, retention, gate="token")
"""
TINY_STREAMS = Streams(scenes=2, input_views=3, target_views=1, chunk_views=2)


@pytest.mark.usefixtures("registered_rules")
def test_reconstruction_with_a_gated_rule(tmp_path, tiny_checkpoint):
    file = tmp_path / "gated.py"
    file.write_text(GATED)
    arguments = ["--quick", "--checkpoint", str(tiny_checkpoint)]
    arguments += ["--rules", "muon", "gated", "sgd"]
    assert main([*arguments, "--rule-file", str(file), "--output", str(tmp_path / "out")]) == 0
    results = read(tmp_path / "out")
    rules = {name: rule["reconstruction"] for name, rule in results["rules"].items()}
    for rule in rules.values():
        assert rule["views"] == [2, 4]
        scores = np.asarray(rule["psnr_by_scene"])
        assert scores.shape == (2, 2)
        np.testing.assert_allclose(rule["psnr"]["mean"], scores.mean(0), rtol=1e-6)
        gain = scores - np.asarray(rules["muon"]["psnr_by_scene"])
        np.testing.assert_allclose(rule["gain"]["mean"], gain.mean(0), atol=1e-5)
    assert rules["muon"]["gain"]["mean"] == [0, 0]  # the rule of the checkpoint
    assert rules["muon"]["gates"] is None
    assert "initial" in rules["gated"]["gates"]
    assert rules["sgd"]["psnr_by_scene"] != rules["muon"]["psnr_by_scene"]
    page = (tmp_path / "out" / "update_rules.html").read_text()
    assert "gated (the rule&#39;s initial values)" in page
    section = page.split("Reconstruction, training-free")[1]
    for chart in section.split("<svg")[1:]:
        assert chart.count("<title>") == chart.count("opacity: 0.15") == 3  # lines and error bands
    assert section.count("<svg") == 2


def test_gates_of_a_checkpoint_serve_their_own_rule_only(tmp_path, dense_run):
    """Initial gates equal the constant; trained ones are read by the rule trained with them."""
    trained = RULES.complete(RuleConfig.of("forget", gate="token", retention=0.5))
    model = override_rule(dense_run.model, trained)
    params = split_model(build_model(model, seed=1))[1]
    gates = params["blocks"]["ttt"]["rule_gates"]
    gates["bias"] = gates["bias"] + 3.0
    config = dataclasses.replace(dense_run, model=model)
    scenes = Reconstructions(str(export_model(config, params, tmp_path / "gated")), TINY_STREAMS)
    own, other, constant, plain = (
        scenes.measure(rule) for rule in (
            trained,
            RULES.complete(RuleConfig.of("forget", gate="head", retention=0.6)),
            RULES.complete(RuleConfig.of("forget", retention=0.6)),
            RULES.complete(RuleConfig("muon")),
        )
    )  # fmt: skip
    assert own["gates"] == "trained with the model"
    assert own["gain"]["mean"] == [0, 0]
    assert "initial" in other["gates"]
    np.testing.assert_allclose(other["psnr_by_scene"], constant["psnr_by_scene"], atol=1e-3)
    assert plain["gates"] is None
    assert np.abs(np.subtract(own["psnr_by_scene"], plain["psnr_by_scene"])).max() > 1e-4


@pytest.mark.parametrize("axis", [0, 1])
def test_curves_by_hand(axis):
    """After one chunk only it counts; by distance the last chunk comes first."""
    error = np.asarray([[0.2, 9.0], [0.4, 0.1]])
    stacked = np.stack([error, 2 * error])
    np.testing.assert_allclose(error_by_pairs(stacked)[axis], np.array([0.2, 0.25]) * (axis + 1))
    np.testing.assert_allclose(error_by_distance(stacked)[axis], np.array([0.1, 0.4]) * (axis + 1))
