"""Triangle meshes of scenes: depth views, fused into a distance field, and its surface.

(The meshes of devices are `parallel`.)
"""

from tttlrm_jax.mesh.pipeline import mesh_of_gaussians, mesh_of_views
from tttlrm_jax.mesh.surface import SurfaceMesh
from tttlrm_jax.mesh.views import DepthView

__all__ = ["DepthView", "SurfaceMesh", "mesh_of_gaussians", "mesh_of_views"]
