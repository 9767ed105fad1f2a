"""`python -m benchmarks.gpu_report` as it is run on a GPU, at tiny sizes on a CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.gpu.rows import ROWS

ROOT = Path(__file__).resolve().parents[3]


def report(output, *options, **environment):
    """Exit code, rows and table."""
    command = [sys.executable, "-m", "benchmarks.gpu_report", "--output", str(output), *options]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | environment, check=False)
    rows = json.loads((output / "gpu_report.json").read_text())["rows"]
    return done.returncode, rows, (output / "gpu_report.md").read_text()


# Left out, 80 s: streaming, attention, and rows that repeat these at other sizes or backends.
REHEARSED = (
    "device", "forward_64", "raster_tiled", "raster_pallas", "gsplat", "training", "ttt3r",
    "agreement", "parts",
)  # fmt: skip


@pytest.mark.timeout(1800)
def test_rows_at_tiny_sizes(tmp_path):
    """The kernel needs a GPU, so its row fails; gsplat may be installed or not."""
    options = ("--tiny", "--minutes", "25", "--rows", *REHEARSED)
    code, rows, table = report(tmp_path, *options, JAX_PLATFORMS="cpu")
    assert sorted(rows) == sorted(REHEARSED)
    assert set(REHEARSED) <= set(ROWS)
    for name, row in rows.items():
        if name not in ("raster_pallas", "gsplat"):
            assert row["state"] == "measured", (name, row["error"])
            timed = [
                f for f in row["figures"] if "seconds" in f and not f["what"].endswith("other")
            ]
            assert row["figures"]
            assert all(figure["seconds"] > 0 for figure in timed)
    failed = rows["raster_pallas"]
    assert code == 1
    assert (failed["state"], failed["figures"]) == ("failed", [])
    assert "InputError: backend=pallas cannot run: the kernel needs a GPU" in failed["error"]
    assert f"| raster_pallas | **failed**: {failed['error']} | | | |" in table
    assert "no published peak is known here" in table
    assert "goal 3.8 s or less" in table
    assert "stage composite backward" in table
    assert all(f["figures"]["frames per s"] > 0 for f in rows["ttt3r"]["figures"])
    (worst,) = [f["figures"] for f in rows["agreement"]["figures"] if "figures" in f]
    assert worst["worst pixel"] < 1e-5
    assert worst["worst gradient, relative"] < 1e-3


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("platform", "error"),
    [("cpu", "device=cpu is no accelerator; use --tiny"), ("nowhere", "nowhere")],
)
def test_without_an_accelerator_rows_say_so(tmp_path, platform, error):
    """`nowhere` fails once a device is asked for: the report itself never does."""
    code, rows, table = report(tmp_path, "--rows", "device", JAX_PLATFORMS=platform)
    assert (code, rows["device"]["state"]) == (1, "failed")
    assert error in rows["device"]["error"]
    assert error in table
