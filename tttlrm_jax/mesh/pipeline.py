"""From Gaussians, or from depth views of any source, to a mesh."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tttlrm_jax.config import RasterConfig
from tttlrm_jax.config.surfaces import SurfaceConfig
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.geometry.poses import PoseNormalisation
from tttlrm_jax.core.geometry.similarity import transform_gaussians
from tttlrm_jax.core.types import Cameras, Gaussians
from tttlrm_jax.mesh.closing import closed_values, open_values
from tttlrm_jax.mesh.colouring import colours_from_views
from tttlrm_jax.mesh.extraction import extract
from tttlrm_jax.mesh.fusion import fuse
from tttlrm_jax.mesh.grid import (
    BlockGrid,
    MemoryLimit,
    blocks_near_surface,
    scene_box,
    voxel_side,
)
from tttlrm_jax.mesh.rendering import (
    evenly,
    frame_of,
    rendered_views,
    resized,
    softened,
    sphere_cameras,
)
from tttlrm_jax.mesh.surface import SurfaceMesh
from tttlrm_jax.mesh.views import BYTES_PER_PIXEL, DepthView, ViewArrays, stacked
from tttlrm_jax.rasterize.render import GSPLAT

DRAWN_VIEWS = 64  # of Gaussians
FINE = 2.0  # pixels of depth that hold so many voxels side by side are worth a note

Bar = Callable[[str, int], Callable[[int], object]]  # what is done, how much: tells of progress


def silent(what: str, total: int) -> Callable[[int], object]:
    """Tells nobody."""
    del what, total
    return lambda done: None


def mesh_of_gaussians(
    gaussians: Gaussians,
    cameras: Cameras | Sequence[Cameras] | None = None,
    config: SurfaceConfig = SurfaceConfig(),
    *,
    frame: PoseNormalisation | None = None,
    raster: RasterConfig = GSPLAT,
    made_at: tuple[int, int] | None = None,
    bar: Bar = silent,
) -> SurfaceMesh:
    """The surface of Gaussians [gaussian], in their frame and units, as cameras [view] see it.

    Depth is drawn in the frame that `frame` leads to, with the settings `raster` (None: the frame
    in which the scene is the unit ball); `made_at` is height and width of the pictures that the
    Gaussians are as sharp as. Without cameras these stand on a sphere around the scene: right for
    things, wrong for rooms. Raises InputError where there is no surface, and where voxels do not
    fit into the memory limit.
    """
    frame = frame_of(gaussians) if frame is None else frame
    groups = _groups(cameras, config, frame)
    pixels = sum(len(each.world_from_camera) * each.height * each.width for each in groups)
    MemoryLimit(config.memory_limit, BYTES_PER_PIXEL * pixels).check_views()
    local = transform_gaussians(gaussians, frame)
    total = sum(len(group.world_from_camera) for group in groups)
    done, views = bar("depth", total), []
    for group in groups:
        soft = raster if made_at is None else softened(raster, made_at, group)
        views += rendered_views(local, group, config, soft, lambda: done(1))
    back = frame.inverse()
    return mesh_of_views([view.moved(back) for view in views], config, bar=bar)


def _groups(
    cameras: Cameras | Sequence[Cameras] | None, config: SurfaceConfig, frame: PoseNormalisation
) -> list[Cameras]:
    """Cameras by the size of their pictures, in the frame in which they are drawn."""
    most = config.views or DRAWN_VIEWS
    if cameras is None:
        return [sphere_cameras(most, config.size)]
    groups = [cameras] if isinstance(cameras, Cameras) else list(cameras)
    total = sum(len(group.world_from_camera) for group in groups)
    chosen = []
    for group in groups:
        share = max(1, round(most * len(group.world_from_camera) / max(total, 1)))
        group = resized(evenly(group, share), config.size)
        poses: Any = frame.apply_poses(np.asarray(group.world_from_camera))
        chosen.append(group.replace(world_from_camera=poses))
    return chosen


def mesh_of_views(
    views: Sequence[DepthView],
    config: SurfaceConfig = SurfaceConfig(),
    *,
    bar: Bar = silent,
) -> SurfaceMesh:
    """The surface that depth views see, in their frame and units.

    Colours are means over the views that see a vertex, where views have colours. Raises InputError
    where they see no surface, and where voxels do not fit into the memory limit.
    """
    limit = MemoryLimit.of(config, views)
    limit.check_views()
    box = scene_box(views)
    voxel = voxel_side(box, config)
    grid = blocks_near_surface(views, box, voxel, config.truncation, limit)
    arrays = stacked(views, grid.origin, voxel)
    field = fuse(grid, arrays, config.truncation, bar("voxels", len(grid.keys)))
    if config.watertight:
        values = closed_values(field, arrays, config.truncation, limit)
    else:
        values = open_values(field)
    vertices, faces = extract(values)
    if not len(faces):
        raise InputError.of(
            "voxel", f"{voxel:.4g}", f"finds no surface in {len(views)} views",
            "use a smaller one, or cameras that see the scene",
        )  # fmt: skip
    notes = (*box.notes(), *_pixel_notes(views, voxel))
    mesh = SurfaceMesh(vertices=vertices, faces=faces, voxel=1.0, notes=notes)
    return _finished(mesh, arrays, config, grid)


def _finished(
    mesh: SurfaceMesh, views: Sequence[ViewArrays], config: SurfaceConfig, grid: BlockGrid
) -> SurfaceMesh:
    """Cleaned, simplified, coloured and moved from the grid into the scene."""
    if config.largest_component:
        mesh = mesh.largest_component()
    if config.faces is not None:
        mesh = mesh.simplified(config.faces)
    if config.watertight and not mesh.is_watertight:
        mesh = mesh.stitched()
    if config.watertight and not mesh.is_watertight:
        note = "watertight: four triangles or more share some edges since the others were left out"
        note += "; use more --faces"
        mesh = dataclasses.replace(mesh, notes=(*mesh.notes, note))
    colours = colours_from_views(mesh.vertices, views, config.truncation)
    return dataclasses.replace(
        mesh, vertices=grid.to_scene(mesh.vertices), colours=colours, voxel=grid.voxel
    )


def _pixel_notes(views: Sequence[DepthView], voxel: float) -> tuple[str, ...]:
    """Says where depth is much coarser than voxels."""
    sizes = [
        np.median(view.depth[view.surface]) / view.intrinsics[0]
        for view in views
        if view.surface.any()
    ]
    ratio = float(np.median(sizes)) / voxel
    if ratio <= FINE:
        return ()
    return (
        f"depth: a pixel is as wide as {ratio:.1f} voxels, so smaller voxels show no more detail",
    )
