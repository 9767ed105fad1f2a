"""Triangle meshes with colours: files, parts that hang together, fewer triangles."""

import dataclasses
from pathlib import Path
from typing import Any, get_args

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from tttlrm_jax.config.surfaces import MeshFormat
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.files.whole_files import write_whole
from tttlrm_jax.core.geometry.poses import PoseNormalisation
from tttlrm_jax.mesh.extraction import needs_extra
from tttlrm_jax.mesh.stitching import stitched

SUFFIXES = tuple(f".{each}" for each in get_args(MeshFormat))
RIGHT_UP_BACK = np.array([1.0, -1.0, -1.0])  # of positions right, down and ahead


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class SurfaceMesh:
    """Triangles counter-clockwise seen from outside, in the frame and units of the scene."""

    vertices: np.ndarray  # float64 [vertex, 3]
    faces: np.ndarray  # int64 [face, 3]
    colours: np.ndarray | None = None  # uint8 [vertex, 3]
    voxel: float  # side, in the units of the scene
    notes: tuple[str, ...] = ()  # what was guessed or left out, a sentence each

    @property
    def is_watertight(self) -> bool:
        """Whether every edge belongs to two triangles that run along it in opposite directions."""
        edges = self.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
        if not len(edges):
            return False
        low, high = edges.min(axis=1), edges.max(axis=1)
        _, which, count = np.unique(
            low * (self.faces.max() + 1) + high, return_inverse=True, return_counts=True
        )
        turn = np.bincount(which.reshape(-1), np.where(edges[:, 0] == low, 1, -1))
        return bool((count == 2).all() and (turn == 0).all())

    def save(self, path: str | Path) -> Path:
        """Writes .ply, .obj or .glb with the colours of vertices; returns the path.

        Coordinates are those of the scene, but in .glb, whose y is up, turned by half a turn about
        x, as splats in glTF are. Raises InputError for another suffix, and where the extra `mesh`
        is not installed.
        """
        path = checked_path(path)
        suffix = path.suffix.lower()
        shown = self
        if suffix == ".glb":
            shown = dataclasses.replace(self, vertices=self.vertices * RIGHT_UP_BACK)
        write_whole(path, _encoded(shown.as_trimesh(), suffix))
        return path

    def as_trimesh(self) -> Any:
        """A `trimesh.Trimesh`, for whatever that library can do."""
        return needs_extra("trimesh").Trimesh(
            self.vertices, self.faces, vertex_colors=self.colours, process=False
        )

    def largest_component(self) -> "SurfaceMesh":
        """What hangs together, by vertices, with the largest area."""
        if not len(self.faces):
            return self
        edges = self.faces[:, [0, 1, 1, 2]].reshape(-1, 2)
        size = (len(self.vertices),) * 2
        graph = coo_array((np.ones(len(edges), bool), tuple(edges.T)), shape=size)
        part = connected_components(graph, directed=False)[1][self.faces[:, 0]]
        return self.with_faces(part == np.bincount(part, self.areas()).argmax())

    def moved(self, similarity: PoseNormalisation) -> "SurfaceMesh":
        """In the frame that a similarity leads to."""
        vertices = similarity.apply_points(self.vertices)
        return dataclasses.replace(self, vertices=vertices, voxel=self.voxel * similarity.scale)

    def areas(self) -> np.ndarray:
        """Of the triangles, float64 [face]."""
        a, b, c = (self.vertices[self.faces[:, i]] for i in range(3))
        return 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1)

    def with_faces(self, chosen: np.ndarray) -> "SurfaceMesh":
        """Some of the faces bool [face], and the vertices that they use."""
        used, faces = np.unique(self.faces[chosen], return_inverse=True)
        colours = None if self.colours is None else self.colours[used]
        return dataclasses.replace(
            self, vertices=self.vertices[used], faces=faces.reshape(-1, 3), colours=colours
        )

    def simplified(self, num_faces: int) -> "SurfaceMesh":
        """About so many triangles, by collapsing edges (Garland and Heckbert 1997); no colours."""
        if len(self.faces) <= num_faces:
            return self
        simplify: Any = needs_extra("fast_simplification").simplify
        middle = self.vertices.mean(axis=0)
        local = ((self.vertices - middle) / self.voxel).astype(np.float32)
        points, faces = simplify(local, self.faces.astype(np.int32), target_count=num_faces)
        faces = np.asarray(faces, np.int64)
        distinct = (faces != np.roll(faces, 1, axis=1)).all(axis=1)
        vertices = middle + self.voxel * np.asarray(points, np.float64)
        made = dataclasses.replace(self, vertices=vertices, faces=faces, colours=None)
        return made.with_faces(distinct)

    def stitched(self) -> "SurfaceMesh":
        """Without edges that more than two triangles share (see `mesh.stitching`); no colours."""
        vertices, faces = stitched(self.vertices, self.faces)
        return dataclasses.replace(self, vertices=vertices, faces=faces, colours=None)


def checked_path(path: str | Path) -> Path:
    """Raises InputError where the suffix is that of no mesh file we write."""
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise InputError.of(
            "output", path, "has no suffix of a mesh file",
            f"end it with one of {', '.join(SUFFIXES)}",
        )  # fmt: skip
    return path


def _encoded(mesh: Any, suffix: str) -> bytes:
    options = {"include_normals": True} if suffix == ".glb" else {}
    made = mesh.export(file_type=suffix[1:], **options)
    return made if isinstance(made, bytes) else made.encode("utf-8")
