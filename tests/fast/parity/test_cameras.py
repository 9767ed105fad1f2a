"""Recordings of camera geometry and of a data item, each quantity within its tolerance."""

import jax
import pytest

from tttlrm_jax.parity.suites import collect

QUANTITIES = {"cameras.npz": 50, "dataset_item.npz": 20}


@pytest.mark.parametrize("kind", QUANTITIES)
def test_recording(shared, kind):
    with jax.enable_x64(True):
        (found,), _ = collect(shared / "goldens" / "tttlrm", kind)
        rows = found.rows()
    failed = [row.line() for row in rows if not row.ok]
    assert not failed, "\n".join(failed)
    assert len(rows) >= QUANTITIES[kind]
