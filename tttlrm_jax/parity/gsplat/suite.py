"""Recordings of the Gaussian splatting rasterizer (folder `gsplat`), by file name."""

from tttlrm_jax.parity.gsplat.raster import check_raster
from tttlrm_jax.parity.gsplat.stages import (
    check_covariance,
    check_projection,
    check_spherical_harmonics,
)
from tttlrm_jax.parity.report import FileCheck

KINDS: dict[str, FileCheck] = {
    "spherical_harmonics.npz": check_spherical_harmonics,
    "quat_scale_to_covar.npz": check_covariance,
    "projection.npz": check_projection,
    "raster_*.npz": check_raster,
    "garden.npz": check_raster,
}
