"""The laboratory's quick mode: one file with charts, and numbers that mean something."""

import json
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from benchmarks.laboratory.recall import error_by_distance, error_by_pairs
from benchmarks.update_rules import main


def test_quick_run_writes_page_and_numbers(tmp_path):
    assert main(["--quick", "--rules", "sgd", "forget(delta)", "--output", str(tmp_path)]) == 0
    results = json.loads((tmp_path / "update_rules.json").read_text())
    assert set(results["rules"]) == {"forget(delta)", "sgd"}
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
        assert chart.count("<polyline") == 2


def test_unknown_rules_are_an_error(tmp_path, capsys):
    assert main(["--quick", "--rules", "mun", "--output", str(tmp_path / "out")]) == 2
    assert "mun" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("axis", [0, 1])
def test_curves_by_hand(axis):
    """After one chunk only it counts; by distance the last chunk comes first."""
    error = np.asarray([[0.2, 9.0], [0.4, 0.1]])
    stacked = np.stack([error, 2 * error])
    np.testing.assert_allclose(error_by_pairs(stacked)[axis], np.array([0.2, 0.25]) * (axis + 1))
    np.testing.assert_allclose(error_by_distance(stacked)[axis], np.array([0.1, 0.4]) * (axis + 1))
