"""Exact surfaces of procedural sculptures, their captures, and pictures of triangles."""

import dataclasses
import functools
from pathlib import Path

import numpy as np

from experiments.meshes.scores import sample_surface
from tttlrm_jax.captures.camera_files import write_opencv_capture
from tttlrm_jax.config import SyntheticConfig
from tttlrm_jax.mesh.rendering import sphere_cameras
from tttlrm_jax.mesh.views import DepthView
from tttlrm_jax.procedural.objects import random_cameras, scene_seed
from tttlrm_jax.procedural.sculptures import SCULPTURE_VERSION, random_sculpture
from tttlrm_jax.procedural.surfaces.triangle_raster import rasterize
from tttlrm_jax.procedural.surfaces.triangle_views import TriangleScene, rendered_scene

JUDGES, JUDGE_SIZE = 128, 384  # cameras that see what of the exact surface is outside
SEEN = 0.015  # depth by which a point may lie behind what a judge sees
CANDIDATES = 400_000


@dataclasses.dataclass(frozen=True)
class Sculpture:
    """An object with its pictures: arrays as `objects.render_object` returns them."""

    scene: TriangleScene
    views: dict[str, np.ndarray]

    @classmethod
    def make(cls, index: int, config: SyntheticConfig) -> "Sculpture":
        """The sculpture of the held-out split with this number."""
        rng = np.random.default_rng([SCULPTURE_VERSION, scene_seed(config, index), 1])
        scene, radius = random_sculpture(rng, config)
        poses, lenses = random_cameras(rng, config, radius)
        return cls(scene, rendered_scene(scene, poses, lenses, config))

    def write(self, directory: Path) -> Path:
        """A capture of the pictures."""
        write_opencv_capture(
            directory, self.views["image"], self.views["world_from_camera"],
            self.views["intrinsics"],
        )  # fmt: skip
        return directory

    def depth_views(self) -> list[DepthView]:
        """The exact depth in the pictures' own cameras."""
        return [
            DepthView(
                depth=np.where(depth > 0, depth, np.inf).astype(np.float32),
                colour=np.ascontiguousarray(image[..., :3]), world_from_camera=pose,
                intrinsics=lens,
            )
            for image, depth, pose, lens in zip(
                *(self.views[k] for k in ("image", "depth", "world_from_camera", "intrinsics")),
                strict=True,
            )
        ]  # fmt: skip

    def all_around(self, count: int, size: int) -> list[DepthView]:
        """The exact depth in cameras on a sphere."""
        surface, cameras = self.scene.surface, sphere_cameras(count, size)
        views = []
        for pose, lens in zip(cameras.world_from_camera, cameras.intrinsics, strict=True):
            _, depth = drawn(surface.vertices, surface.triangles, pose, lens, size)
            views.append(DepthView(depth=depth, world_from_camera=pose, intrinsics=lens))
        return views

    @functools.cached_property
    def outside(self) -> tuple[np.ndarray, np.ndarray]:
        """Points and normals of the exact surface that a camera all around it can see."""
        surface = self.scene.surface
        points, normals = sample_surface(
            surface.vertices, surface.triangles, CANDIDATES, np.random.default_rng(0)
        )
        seen = np.zeros(len(points), bool)
        for view in self.all_around(JUDGES, JUDGE_SIZE):
            seen |= visible(points, normals, view)
        return points[seen], normals[seen]


def visible(points: np.ndarray, normals: np.ndarray, view: DepthView) -> np.ndarray:
    """Which points face a camera and are no more than `SEEN` behind what it sees."""
    pose, (fx, fy, cx, cy) = view.world_from_camera, view.intrinsics
    local = (points - pose[:3, 3]) @ pose[:3, :3]
    height, width = view.depth.shape
    column = np.floor(fx * local[:, 0] / local[:, 2] + cx).astype(int)
    row = np.floor(fy * local[:, 1] / local[:, 2] + cy).astype(int)
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    depth = view.depth[row.clip(0, height - 1), column.clip(0, width - 1)]
    faces = np.sum(normals * (pose[:3, 3] - points), axis=1) > 0
    return inside & faces & (local[:, 2] <= depth + SEEN)


def drawn(
    vertices: np.ndarray, faces: np.ndarray, pose: np.ndarray, lens: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Which triangle [size, size] each pixel sees, -1 for none, and its depth, else infinite."""
    local = (np.asarray(vertices, np.float64) - pose[:3, 3]) @ pose[:3, :3]
    nearness = 1 / local[:, 2]
    screen = np.stack(
        [lens[0] * local[:, 0] * nearness + lens[2], lens[1] * local[:, 1] * nearness + lens[3],
         nearness], axis=-1,
    )  # fmt: skip
    hits = rasterize(screen[faces], size, size)
    met = hits.triangle >= 0
    depth = np.where(met, 1 / np.where(met, hits.nearness, 1), np.inf)
    return hits.triangle, depth.astype(np.float32)


def picture(
    vertices: np.ndarray, faces: np.ndarray, colours: np.ndarray | None, number: int, size: int
) -> np.ndarray:
    """Triangles under a lamp, uint8 [size, size, 3], from one of eight cameras around them."""
    cameras = sphere_cameras(8, size)
    pose = np.asarray(cameras.world_from_camera[number])
    lens = np.asarray(cameras.intrinsics[number])
    triangle, _ = drawn(vertices, faces, pose, lens, size)
    a, b, c = (np.asarray(vertices, np.float64)[faces[:, i]] for i in range(3))
    normal = np.cross(b - a, c - a)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-30)
    light = 0.45 + 0.55 * np.clip(normal @ (pose[:3, :3] @ [0.3, -0.5, -0.81]), 0, 1)
    base = np.full((len(faces), 3), 200.0)
    if colours is not None:
        base = colours[faces].mean(axis=1)
    image = np.full((size, size, 3), 255.0)
    met = triangle >= 0
    image[met] = (base * light[:, None])[triangle[met]]
    return image.round().astype(np.uint8)
