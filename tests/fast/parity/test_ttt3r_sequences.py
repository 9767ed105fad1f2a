"""Recordings of metrics, cameras, chunks and preprocessing, each quantity within tolerance."""

import pytest

from tttlrm_jax.parity.suites import collect

QUANTITIES = {
    "metrics_pose.npz": 30, "metrics_depth.npz": 30, "metrics_recon.npz": 15,
    "camera_utils.npz": 10, "preprocess.npz": 15,
}  # fmt: skip


@pytest.mark.parametrize("kind", QUANTITIES)
def test_recording(shared, kind):
    (found,), _ = collect(shared / "goldens" / "ttt3r", kind)
    rows = found.rows()
    failed = [row.line() for row in rows if not row.ok]
    assert not failed, "\n".join(failed)
    assert len(rows) >= QUANTITIES[kind]
