"""`python -m benchmarks.startup`: a first run compiles, a second one finds the programs."""

import json

import pytest

from benchmarks import startup


def test_two_runs_are_timed(tmp_path, capsys, tiny_checkpoint, tiny_capture_source):
    rows = tmp_path / "rows.json"
    options = ["--capture", str(tiny_capture_source), "--checkpoint", str(tiny_checkpoint)]
    options += ["--orbit-frames", "1"]
    startup.main([*options, "--json", str(rows)])
    document = json.loads(rows.read_text())
    assert document["options"] == options
    first, second = document["runs"]
    for run in (first, second):
        assert 0 < run["first_picture"] < run["all_files"]
    assert second["cpu"] < first["cpu"]  # much less: nothing is compiled
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_a_run_that_fails_says_why(tmp_path):
    with pytest.raises(SystemExit, match="nowhere"):
        startup.main(["--runs", "1", "--capture", str(tmp_path / "nowhere")])
