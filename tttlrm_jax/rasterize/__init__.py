"""Gaussian splatting: `render` and `render_views` with interchangeable backends."""

from tttlrm_jax.rasterize.compositing import ScreenSplats, screen_splats
from tttlrm_jax.rasterize.eager import Renderer
from tttlrm_jax.rasterize.projection import ProjectedGaussians, project
from tttlrm_jax.rasterize.render import (
    BACKENDS,
    Rendering,
    composite,
    default_capacity,
    expected_depth,
    fit_capacity,
    project_and_colour,
    render,
    render_from_matrix,
    render_views,
)
from tttlrm_jax.rasterize.reporting import warn_if_incomplete
from tttlrm_jax.rasterize.scene_renderer import SceneRenderer

__all__ = [
    "BACKENDS", "ProjectedGaussians", "Renderer", "Rendering", "SceneRenderer", "ScreenSplats",
    "composite", "default_capacity", "expected_depth", "fit_capacity", "project",
    "project_and_colour", "render", "render_from_matrix", "render_views", "screen_splats",
    "warn_if_incomplete",
]  # fmt: skip
