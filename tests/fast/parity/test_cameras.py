"""Recordings of camera geometry and of a data item, each quantity within its tolerance."""

import jax
import pytest

from tttlrm_jax.parity.cameras import KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_recording(shared, kind):
    with jax.enable_x64(True):
        rows = list(KINDS[kind](shared / "goldens" / "tttlrm" / kind))
    failed = [row.line() for row in rows if not row.ok]
    assert not failed, "\n".join(failed)
    assert len(rows) >= {"cameras.npz": 50, "dataset_item.npz": 20}[kind]
