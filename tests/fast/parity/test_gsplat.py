"""Every recording of the rasterizer, gradients included; by default one of each backend.

The parity command checks both backends in both precisions; to save compiling, here each backend
takes one: the contract tests hold tiled against reference in float64.
"""

import jax
import pytest

from tttlrm_jax.parity.recording import load
from tttlrm_jax.parity.suites import recognise

STAGES = ("spherical_harmonics.npz", "quat_scale_to_covar.npz", "projection.npz")
RASTER = tuple(
    f"raster_{kind}.npz"
    for kind in (
        "random", "random_odd", "needles", "opaque_stack", "empty", "single_cover", "depth_ties",
        "antialiased", "features",
    )
)  # fmt: skip
OFTEN = ("raster_random_odd.npz", "raster_features.npz")
EXTENDED = pytest.mark.extended
TILED = ("fp32", "tiled")
DENSE = ("fp64", "reference")
BALANCED = ("fp32", "balanced")
CASES = [
    *(pytest.param(name, None, id=name) for name in STAGES),
    *(
        pytest.param(name, TILED, id=f"{name}-tiled", marks=() if name in OFTEN else EXTENDED)
        for name in (*RASTER, "garden.npz")
    ),
    *(
        pytest.param(f"raster_{name}.npz", BALANCED, id=f"raster_{name}-balanced", marks=EXTENDED)
        for name in ("depth_ties", "random_odd", "opaque_stack", "needles")
    ),
    *(
        pytest.param(name, DENSE, id=f"{name}-reference", marks=EXTENDED)
        for name in RASTER  # garden has 10,000 Gaussians: too many for dense
    ),
]


@pytest.mark.parametrize(("name", "variant"), CASES)
def test_recording(shared, name, variant):
    path = shared / "goldens" / "gsplat" / name
    arguments = () if variant is None else ((variant,),)
    with jax.enable_x64(True):
        rows = list(recognise(path).check(load(path), *arguments))
    failed = [row.line() for row in rows if not row.ok]
    assert not failed, "\n".join(failed)
    assert len(rows) >= 5
