"""The report of a GPU: whatever happens to a row costs that row alone."""

import json
import os
import sys
import time
from pathlib import Path

import pytest

from benchmarks import gpu_report
from tttlrm_jax.training.watching.chips import chip_of

FIGURE = 'open(sys.argv[1], "a").write("{\\"what\\": \\"first\\", \\"seconds\\": 2.0}\\n");'


def run(code, tmp_path, seconds=60.0):
    lines = tmp_path / "lines.jsonl"
    command = [sys.executable, "-c", f"import os, sys, time; {code}", str(lines)]
    return gpu_report.run_row(command, seconds, lines, tmp_path / "log.txt", dict(os.environ))


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("raise RuntimeError('RESOURCE_EXHAUSTED: a\\nb')", "RuntimeError: RESOURCE_EXHAUSTED: a"),
        ("os.abort()", "ended by SIGABRT"),
        ("print('F0000 check failed'); sys.stdout.flush(); os.abort()",
         "ended by SIGABRT: F0000 check failed"),
        ("sys.exit('no such backend')", "no such backend"),
        ("os._exit(3)", "exit code 3"),
    ],
)  # fmt: skip
def test_a_row_that_ends_early_leaves_its_figures_and_one_line(code, error, tmp_path):
    row = run(FIGURE + code, tmp_path)
    assert (row["state"], row["error"]) == ("failed", error)
    assert row["figures"] == [{"what": "first", "seconds": 2.0}]


def test_a_row_that_hangs_is_ended_with_what_it_started(tmp_path):
    """The half-written line of a figure does not count."""
    pid = tmp_path / "pid"
    child = f"import os, time; open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    code = f"import subprocess; {FIGURE} open(sys.argv[1], 'a').write('{{'); "
    row = run(f"{code} subprocess.run([sys.executable, '-c', {child!r}])", tmp_path, seconds=2.0)
    assert row["error"] == "took longer than its 2 s"
    assert len(row["figures"]) == 1
    while _runs(int(pid.read_text())):  # the system takes a moment
        time.sleep(0.05)


def _runs(pid: int) -> bool:
    """Whether a process is there and no zombie that nobody reaps."""
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


def test_a_row_without_faults(tmp_path):
    row = run(FIGURE, tmp_path)
    assert (row["state"], row["error"], len(row["figures"])) == ("measured", None, 1)


def test_without_time_rows_are_skipped_and_said(tmp_path):
    (tmp_path / "logs").mkdir()
    rows = gpu_report.measure_all(["device", "training"], 5.0, ["--tiny"], tmp_path)
    assert [row["state"] for row in rows.values()] == ["skipped", "skipped"]
    table = (tmp_path / "gpu_report.md").read_text()
    assert "| training | **skipped**: time is over" in table
    assert json.loads((tmp_path / "gpu_report.json").read_text())["rows"].keys() == rows.keys()


def test_the_table_sets_goals_beside_figures():
    forward = {
        "what": "64 views", "seconds": 3.0, "goal_seconds": 3.8, "beside": "paper: 14.8 s",
        "figures": {"of peak": 0.25, "of whole": None}, "gib_peak": 12.0,
    }  # fmt: skip
    rows = {
        "forward_64": [forward, forward | {"seconds": 4.0}],
        "raster_balanced": [{"what": "a", "seconds": 2e-3}, {"what": "b", "seconds": 9.0}],
        "raster_pallas": [{"what": "a", "seconds": 1e-3}],
        "gsplat": [{"what": "a", "seconds": 1.5e-3}, {"what": "b", "seconds": 8.0}],
    }
    whole = {name: {"error": None, "figures": figures} for name, figures in rows.items()}
    table = gpu_report.markdown({"date": "today", "tiny": False, "rows": whole}).splitlines()
    assert (
        "| forward_64 | 64 views | 3 s | 25 % of peak; device peak, GiB 12 | "
        "goal 3.8 s or less: reached; paper: 14.8 s |" in table
    )
    assert any("| 4 s |" in line and "3.8 s or less: missed" in line for line in table)
    assert "| gsplat | a | 1.5 ms |  | goal, ours as fast: 1 ms, reached |" in table
    assert "| gsplat | b | 8 s |  | goal, ours as fast: 9 s, missed |" in table


def test_peaks_by_the_names_that_jax_gives():
    for kind, peaks in {
        "NVIDIA H200": (989, 4.8), "NVIDIA H100 80GB HBM3": (989, 3.35),
        "NVIDIA A100-SXM4-80GB": (312, 2.0), "NVIDIA H100 PCIe": (756, 2.0),
        "NVIDIA GH200 480GB": (989, 4.0),
    }.items():  # fmt: skip
        assert chip_of(kind) == peaks
    for kind in ("cpu", "NVIDIA H200 MIG 1g.18gb", "Radeon"):
        assert chip_of(kind) is None


@pytest.mark.parametrize("arguments", [["--minutes", "0"], ["--rows", "none"]])
def test_senseless_options_are_refused(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        gpu_report.main(arguments)
    assert stopped.value.code == 2
    assert arguments[-1] in capsys.readouterr().err


def test_an_output_that_is_a_file_is_refused(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert gpu_report.main(["--output", str(tmp_path / "file")]) == 2
    assert "error: output=" in capsys.readouterr().err


def test_an_interruption_leaves_the_rows_before_it(tmp_path, monkeypatch, capsys):
    measured = {"state": "measured", "error": None, "figures": [], "seconds": 1.0}
    rows = iter([measured])

    def run_row(*_):
        if (row := next(rows, None)) is None:
            raise KeyboardInterrupt
        return row

    monkeypatch.setattr(gpu_report, "run_row", run_row)
    assert gpu_report.main(["--rows", "device", "parts", "--output", str(tmp_path)]) == 130
    assert capsys.readouterr().err == f"interrupted; the rows before are in {tmp_path}\n"
    assert list(json.loads((tmp_path / "gpu_report.json").read_text())["rows"]) == ["device"]
