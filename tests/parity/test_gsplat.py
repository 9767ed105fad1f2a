"""Every recording of the rasterizer, gradients included.

The parity command checks both backends in both precisions; to save compiling, here each backend
takes one: the contract tests hold tiled against reference in float64.
"""

import jax
import pytest

from tttlrm_jax.parity.gsplat import KINDS

RASTER = (("fp32", "tiled"), ("fp64", "reference"))
FILES = {
    "spherical_harmonics.npz": None,
    "quat_scale_to_covar.npz": None,
    "projection.npz": None,
    "raster_random.npz": RASTER,
    "raster_random_odd.npz": RASTER,
    "raster_needles.npz": RASTER,
    "raster_opaque_stack.npz": RASTER,
    "raster_empty.npz": RASTER,
    "raster_single_cover.npz": RASTER,
    "raster_depth_ties.npz": RASTER,
    "raster_antialiased.npz": RASTER,
    "raster_features.npz": RASTER,
    "garden.npz": (("fp32", "tiled"),),  # 10,000 Gaussians: too many for dense
}


def check_of(name: str):
    """The check of the kind that a file name belongs to."""
    return KINDS[name if name in KINDS else "raster_*.npz"]


@pytest.mark.parametrize("name", FILES)
def test_recording(shared, name):
    path = shared / "goldens" / "gsplat" / name
    arguments = () if FILES[name] is None else (FILES[name],)
    with jax.enable_x64(True):
        rows = list(check_of(name)(path, *arguments))
    failed = [row.line() for row in rows if not row.ok]
    assert not failed, "\n".join(failed)
    assert len(rows) >= 5
