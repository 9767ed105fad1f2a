"""The recordings that travel with the repository, and the command that runs them."""

import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tttlrm_jax.parity import __main__ as command
from tttlrm_jax.parity import suites
from tttlrm_jax.parity.recording import load
from tttlrm_jax.parity.suites import SUITES, collect
from tttlrm_jax.parity.tttlrm.ttt import check_newton_schulz
from tttlrm_jax.ttt import newton_schulz

GOLDEN = Path(__file__).resolve().parents[2] / "golden"


@pytest.fixture(autouse=True)
def _x64():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("name", ["newton_schulz", "fast_weight_update_fp64", "mlp"])
def test_recorded(name):
    (found,), _ = collect(GOLDEN, f"{name}.npz")
    rows = found.rows()
    assert rows
    assert not [row.line() for row in rows if not row.ok]


def test_command_prints_a_line_per_quantity(capsys):
    assert command.main([str(GOLDEN), "--only", "mlp.npz"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 9
    assert lines[0].split()[:2] == ["mlp.npz", "fp32/output"]
    assert "0 failed" in lines[-1]


def test_command_json(capsys):
    assert command.main([str(GOLDEN), "--only", "mlp.npz", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["quantities"] == len(report["rows"]) == 8
    assert all(row["error"] <= row["tolerance"] and row["ok"] for row in report["rows"])


def test_changed_number_fails(tmp_path, capsys):
    with np.load(GOLDEN / "mlp.npz") as stored:
        arrays = {key: stored[key] for key in stored.files}
    arrays["fp64/output"] = arrays["fp64/output"].copy()
    arrays["fp64/output"].flat[3] += 1e-5 * np.abs(arrays["fp64/output"]).max()
    np.savez(tmp_path / "mlp.npz", **arrays)
    assert command.main([str(tmp_path)]) == 1
    failed = capsys.readouterr().out.split("failed:\n")[1].splitlines()
    assert [line.split()[1] for line in failed[:-1]] == ["fp64/output"]


def test_recognised_by_file_name_in_any_folder(tmp_path, capsys):
    (tmp_path / "some_name").mkdir()
    shutil.copy(GOLDEN / "mlp.npz", tmp_path / "some_name" / "mlp.npz")
    (tmp_path / "some_name" / "notes.json").write_text("{}")
    assert command.main([str(tmp_path)]) == 0
    assert "notes.json: of no known kind" in capsys.readouterr().out


def test_known_kind_without_check_is_missing(tmp_path, capsys, monkeypatch):
    kinds = {**SUITES["tttlrm"], "mlp.npz": None}
    monkeypatch.setattr(suites, "SUITES", {"tttlrm": kinds})
    shutil.copy(GOLDEN / "mlp.npz", tmp_path / "mlp.npz")
    assert command.main([str(tmp_path)]) == 1
    assert "tttlrm/mlp.npz" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["empty", "absent", "truncated", "unrelated", "meta"])
def test_unusable_folder_exits_2_with_one_sentence(tmp_path, capsys, kind):
    folder = tmp_path / "recordings"
    if kind != "absent":
        folder.mkdir()
    if kind == "truncated":
        content = (GOLDEN / "mlp.npz").read_bytes()
        (folder / "mlp.npz").write_bytes(content[: len(content) // 2])
    if kind == "unrelated":
        np.savez(folder / "newton_schulz.npz", notes=np.zeros(3))
    if kind == "meta":
        np.savez(folder / "mlp.npz", meta_json=np.array("{"))
    assert command.main([str(folder)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1


def test_a_key_that_is_missing_fails_one_file_and_the_rest_goes_on(tmp_path, capsys):
    with np.load(GOLDEN / "mlp.npz") as stored:
        arrays = {key: stored[key] for key in stored.files}
    lost = next(key for key in arrays if key.startswith("param/"))
    np.savez(tmp_path / "mlp.npz", **{key: x for key, x in arrays.items() if key != lost})
    np.savez(tmp_path / "newton_schulz.npz", notes=np.zeros(3))
    (tmp_path / "whole").mkdir()
    shutil.copy(GOLDEN / "mlp.npz", tmp_path / "whole" / "mlp.npz")
    assert command.main([str(tmp_path)]) == 1
    failed = capsys.readouterr().out.split("failed:\n")[1].splitlines()
    assert [line.split()[0] for line in failed[:-1]] == ["mlp.npz", "newton_schulz.npz"]
    assert lost.removeprefix("param/") in failed[0]
    assert "nothing to check" in failed[1]


def test_arrays_that_do_not_fit_fail_and_the_rest_goes_on(tmp_path, capsys):
    with np.load(GOLDEN / "mlp.npz") as stored:
        arrays = {key: stored[key] for key in stored.files}
    np.savez(tmp_path / "mlp.npz", **{**arrays, "x": arrays["x"][..., :-1]})
    (tmp_path / "whole").mkdir()
    shutil.copy(GOLDEN / "mlp.npz", tmp_path / "whole" / "mlp.npz")
    assert command.main([str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert "cannot be run" in out
    assert "9 quantities of 2 files: 1 failed" in out


@pytest.mark.parametrize(("size", "exact"), [((40, 24), True), ((96, 384), False)])
def test_newton_schulz_of_any_size_is_judged_fairly(tmp_path, size, exact):
    """Another order of summation flips roundings in large matrices; a wrong result still fails."""
    matrix = np.random.default_rng(0).normal(size=(3, *size)).astype(np.float32)
    rows = np.random.default_rng(1).permutation(size[0])
    result = np.asarray(newton_schulz(jnp.asarray(matrix[:, rows]), 5, jnp.bfloat16))
    result = result[:, np.argsort(rows)]

    def verdicts(recorded):
        path = tmp_path / "newton_schulz.npz"
        np.savez(path, **{"a/G": matrix, "a/cotangent": matrix, "a/steps5/bf16": recorded})
        load.cache_clear()
        return {row.measure: row.ok for row in check_newton_schulz(load(path))}

    assert all(verdicts(result).values())
    if exact:
        in_float32 = np.asarray(newton_schulz(jnp.asarray(matrix), 5, jnp.float32))
        assert not verdicts(in_float32)["share"]
    assert not all(verdicts(np.roll(result, 1, axis=1)).values())
