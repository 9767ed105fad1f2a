"""Every recording of the rasterizer, gradients included.

The parity command checks both backends in both precisions; to save compiling, here each backend
takes one: the contract tests hold tiled against reference in float64.
"""

import jax
import pytest

from tttlrm_jax.parity.gsplat import KINDS
from tttlrm_jax.parity.gsplat_raster import check_raster

COMBINATIONS = (("fp32", "tiled"), ("fp64", "reference"))


@pytest.mark.parametrize("kind", KINDS)
def test_recordings(shared, kind):
    paths = sorted((shared / "goldens" / "gsplat").glob(kind))
    assert paths, f"no recording {kind}"
    arguments = (COMBINATIONS,) if KINDS[kind] is check_raster else ()
    with jax.enable_x64(True):
        rows = [row for path in paths for row in KINDS[kind](path, *arguments)]
    failed = [row.line() for row in rows if not row.ok]
    assert not failed, "\n".join(failed)
    assert len(rows) >= 15
