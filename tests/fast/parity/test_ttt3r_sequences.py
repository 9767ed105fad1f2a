"""Recordings of metrics, cameras, chunks and preprocessing, each quantity within tolerance."""

import pytest

from tttlrm_jax.parity.suites import SUITES, collect
from tttlrm_jax.parity.ttt3r.sequences import KINDS

QUANTITIES = {
    "metrics_pose.npz": 30, "metrics_depth.npz": 30, "metrics_recon.npz": 15,
    "camera_utils.npz": 10, "preprocess.npz": 15,
}  # fmt: skip


@pytest.mark.parametrize("kind", QUANTITIES)
def test_recording(shared, kind):
    (found,), _ = collect(shared / "goldens" / "ttt3r", kind)
    rows = list(found.check(found.path))
    failed = [row.line() for row in rows if not row.ok]
    assert not failed, "\n".join(failed)
    assert len(rows) >= QUANTITIES[kind]


def test_the_command_knows_them():
    assert len(KINDS) == len(QUANTITIES)
    assert all(SUITES["ttt3r"][kind] is check for kind, check in KINDS.items())
