"""Every recording of the rasterizer, gradients included.

The parity command checks both backends in both precisions; to save compiling, here each backend
takes one: the contract tests hold tiled against reference in float64.
"""

import jax
import pytest

from tttlrm_jax.parity.gsplat import KINDS

COMBINATIONS = {
    "raster_*.npz": (("fp32", "tiled"), ("fp64", "reference")),
    "garden.npz": (("fp32", "tiled"), ("fp64", "tiled")),  # 10,000 Gaussians: too many for dense
}


@pytest.mark.parametrize("kind", KINDS)
def test_recordings(shared, kind):
    paths = sorted((shared / "goldens" / "gsplat").glob(kind))
    assert paths, f"no recording {kind}"
    arguments = (COMBINATIONS[kind],) if kind in COMBINATIONS else ()
    with jax.enable_x64(True):
        rows = [row for path in paths for row in KINDS[kind](path, *arguments)]
    failed = [row.line() for row in rows if not row.ok]
    assert not failed, "\n".join(failed)
    assert len(rows) >= 15
