"""The report for a GPU, rehearsed in small: every row, and what becomes of rows that fail."""

import json

from benchmarks import gpu_report


def test_every_row_is_measured_in_small(tmp_path, capsys):
    output = tmp_path / "report.json"
    code = gpu_report.main(["--tiny", "--repeats", "1", "--output", str(output)])
    records = json.loads(output.read_text())["records"]
    failed = {r["row"]: r.get("stderr") for r in records if r["state"] != "measured"}
    assert (code, failed) == (0, {})
    assert [record["row"] for record in records] == list(gpu_report.ROWS)
    by_name = {record["row"]: record["result"] for record in records}
    assert by_name["forward, 64 views"]["seconds"] > 0
    assert by_name["rasterizer, balanced, 1M"]["composite_ms"] > 0
    assert by_name["ttt3r"]["frames_per_second"] > 0
    table = capsys.readouterr().out
    assert all(f"| {name} |" in table for name in gpu_report.ROWS)
    assert "3.8 s or less" in table


def test_rows_that_fail_and_rows_without_time_are_said(tmp_path, capsys, monkeypatch):
    output = tmp_path / "report.json"
    monkeypatch.setenv("JAX_PLATFORMS", "nowhere")
    options = ["--tiny", "--output", str(output), "--rows", "device", "streaming"]
    assert gpu_report.main(options) == 1
    records = json.loads(output.read_text())["records"]
    assert [record["state"] for record in records] == ["failed", "failed"]
    assert "nowhere" in records[0]["error"]
    assert "| device | failed: " in capsys.readouterr().out


def test_a_row_that_takes_too_long_is_ended(tmp_path):
    output = tmp_path / "report.json"
    options = ["--tiny", "--output", str(output), "--budget", "1", "--rows", "ttt3r", "device"]
    assert gpu_report.main(options) == 1
    first, second = json.loads(output.read_text())["records"]
    assert first["error"].startswith("took more than 1.0 s")
    assert second["state"] == "no time left"
