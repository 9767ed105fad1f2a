"""Ctrl-C while Gaussians improve: a real process, and files that can be read."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tttlrm_jax.apps.reconstruct.files import OUTPUT_FILES
from tttlrm_jax.export.splats.ply import read_ply

ROOT = Path(__file__).resolve().parents[3]
PATIENCE = 400  # seconds until the first look at views held back, on a busy machine


def test_what_was_reached_is_written(tmp_path):
    output = tmp_path / "out"
    process = subprocess.Popen(
        [
            sys.executable, str(ROOT / "eval.py"), "--capture", "toy", "--views", "4",
            "--seconds", "3000", "--resolution", "64", "64", "--orbit-frames", "4",
            "--output", str(output),
        ],
        env=os.environ | {"TTTLRM_TYPECHECK": "0"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, preexec_fn=_interruptible,
    )  # fmt: skip
    try:
        preview = output.with_name("out.preview.png")
        until = time.monotonic() + PATIENCE
        while not preview.exists() and process.poll() is None and time.monotonic() < until:
            time.sleep(0.2)
        assert preview.exists(), process.communicate()[1] if process.poll() is not None else ""
        process.send_signal(signal.SIGINT)
        printed, errors = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    assert process.returncode == 0, errors
    assert "report.html" in printed
    assert set(OUTPUT_FILES) <= {path.name for path in output.iterdir()}
    assert not preview.exists()
    metrics = json.loads((output / "metrics.json").read_text())
    assert metrics["post_optimize"]["ended"] == "interrupted"
    assert len(metrics["post_optimize"]["moments"]) >= 1
    assert len(read_ply(output / "scene.ply").mean) == metrics["num_gaussians"] > 0
    assert "; interrupted" in (output / "report.html").read_text(encoding="utf-8")


def _interruptible() -> None:
    """SIGINT as in a terminal: a suite that a shell starts in the background ignores it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
