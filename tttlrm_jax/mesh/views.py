"""What cameras see of a surface: depth, where it faces them, and its colours.

Depth is z in the units of the scene, 0 where nothing is known, infinite where a ray meets nothing.
"""

import dataclasses
from collections.abc import Sequence

import flax.struct
import numpy as np
from jaxtyping import Array, Float, UInt8
from scipy.ndimage import binary_erosion

from tttlrm_jax.core.arrays import on_device
from tttlrm_jax.core.geometry.pointmaps import unproject
from tttlrm_jax.core.geometry.poses import PoseNormalisation, rigid_inverse

LEAST_FACING = 0.15  # cosine below which a pixel says nothing: 81 degrees, or the edge of a thing
AT_OUTLINE = 0.03  # weight of pixels that see nothing, but their neighbours something
BESIDE_NOTHING = 0.3  # cosine of pixels whose neighbours do not know their depth
BYTES_PER_PIXEL = 11  # nearness and cosine float32, three colours


@dataclasses.dataclass(frozen=True, kw_only=True)
class DepthView:
    """One camera's depth (see above), and colours where they are known."""

    depth: np.ndarray  # float32 [height, width]
    colour: np.ndarray | None = None  # uint8 [height, width, 3]
    world_from_camera: np.ndarray  # float64 [4, 4]
    intrinsics: np.ndarray  # float64 [4]: fx, fy, cx, cy

    @property
    def surface(self) -> np.ndarray:
        """Pixels bool [height, width] that see a surface."""
        return (self.depth > 0) & np.isfinite(self.depth)

    def points(self, stride: int = 1) -> np.ndarray:
        """Positions float64 [point, 3] in the world, of every so many rows and columns."""
        known = self.surface[::stride, ::stride]
        depth = np.where(self.surface, self.depth, 0.0)
        local = unproject(depth, self.intrinsics)[::stride, ::stride][known]
        return local @ self.world_from_camera[:3, :3].T + self.world_from_camera[:3, 3]

    def moved(self, similarity: PoseNormalisation) -> "DepthView":
        """In the frame that a similarity leads to."""
        return dataclasses.replace(
            self, depth=self.depth * np.float32(similarity.scale),
            world_from_camera=similarity.apply_poses(self.world_from_camera),
        )  # fmt: skip

    def facing(self) -> np.ndarray:
        """|cosine| float32 [height, width] between rays and normals, 0 where it is too small."""
        known = self.surface
        points = unproject(np.where(known, self.depth, 0.0), self.intrinsics)
        normal = np.cross(_across(points, 1), _across(points, 0))
        lengths = np.linalg.norm(normal, axis=-1) * np.linalg.norm(points, axis=-1)
        cosine = np.abs(np.sum(normal * points, axis=-1)) / np.maximum(lengths, 1e-30)
        cosine = np.where(_surrounded(known), cosine, BESIDE_NOTHING)
        return np.where(known & (cosine >= LEAST_FACING), cosine, 0.0).astype(np.float32)


@flax.struct.dataclass
class ViewArrays:
    """Views of one size on the device, in units of voxels; `nearness` is 1 / depth.

    `facing` is what a pixel weighs: the cosine, or how sure it is to see nothing.
    `nearness` is 0 where a ray meets nothing, -1 where nothing is known.
    """

    nearness: Float[Array, "view height width"]
    facing: Float[Array, "view height width"]
    colour: UInt8[Array, "view height width 3"] | None
    camera_from_grid: Float[Array, "view 3 4"]
    intrinsics: Float[Array, "view 4"]


def stacked(views: Sequence[DepthView], origin: np.ndarray, voxel: float) -> list[ViewArrays]:
    """Views by their sizes, in the frame of a grid whose point 0 is `origin` [3]."""
    sizes = sorted({view.depth.shape for view in views})
    return [
        _stacked([view for view in views if view.depth.shape == size], origin, voxel)
        for size in sizes
    ]


def _stacked(views: Sequence[DepthView], origin: np.ndarray, voxel: float) -> ViewArrays:
    facing = np.stack([view.facing() for view in views])
    depth = np.stack([view.depth for view in views])
    with np.errstate(divide="ignore"):
        nearness = np.where(facing > 0, np.float32(voxel) / depth, np.float32(-1))
    free = np.isposinf(depth)
    nearness[free] = 0.0
    # half a pixel beside an outline a ray may meet the surface after all
    sure = binary_erosion(free, np.ones((1, 3, 3), bool), border_value=1)
    facing[free] = np.where(sure, 1.0, AT_OUTLINE)[free]
    poses = np.stack([view.world_from_camera for view in views]).astype(np.float64)
    poses[:, :3, 3] = (poses[:, :3, 3] - origin) / voxel
    colours = [view.colour for view in views if view.colour is not None]
    return ViewArrays(
        nearness=on_device(nearness, np.float32),
        facing=on_device(facing),
        colour=on_device(np.stack(colours)) if len(colours) == len(views) else None,
        camera_from_grid=on_device(rigid_inverse(poses)[:, :3], np.float32),
        intrinsics=on_device(np.stack([view.intrinsics for view in views]), np.float32),
    )


def _across(points: np.ndarray, axis: int) -> np.ndarray:
    """Central differences of [height, width, 3], one-sided at the borders."""
    return np.gradient(points, axis=axis) if points.shape[axis] > 1 else np.zeros_like(points)


def _surrounded(known: np.ndarray) -> np.ndarray:
    """Known pixels whose four neighbours are known; what is outside of the picture counts so."""
    padded = np.pad(known, 1, constant_values=True)
    return (
        known & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    )  # fmt: skip
