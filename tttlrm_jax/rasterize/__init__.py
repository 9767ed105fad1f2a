"""Gaussian splatting: `render` and `render_views` with interchangeable backends."""

from tttlrm_jax.rasterize.projection import ProjectedGaussians, project
from tttlrm_jax.rasterize.render import (
    BACKENDS,
    Rendering,
    default_capacity,
    expected_depth,
    fit_capacity,
    render,
    render_eager,
    render_from_matrix,
    render_views,
)

__all__ = [
    "BACKENDS",
    "ProjectedGaussians",
    "Rendering",
    "default_capacity",
    "expected_depth",
    "fit_capacity",
    "project",
    "render",
    "render_eager",
    "render_from_matrix",
    "render_views",
]
