"""Every recording of the rasterizer, both backends, float32 and float64, gradients included."""

import jax
import pytest

from tttlrm_jax.parity.gsplat import KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_recordings(shared, kind):
    paths = sorted((shared / "goldens" / "gsplat").glob(kind))
    assert paths, f"no recording {kind}"
    with jax.enable_x64(True):
        rows = [row for path in paths for row in KINDS[kind](path)]
    failed = [row.line() for row in rows if not row.ok]
    assert not failed, "\n".join(failed)
    assert len(rows) >= 20
