"""Triangle meshes as arrays: grids, joining, subdividing and cutting along a level function.

Triangles run counter-clockwise seen from outside; positions are in the units of their scene.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

CUT_LEVELS = 2  # subdivisions of triangles that a cut crosses, before they are clipped


@dataclasses.dataclass(frozen=True)
class TriangleMesh:
    """Indexed triangles; `part` says which material a triangle has."""

    vertices: np.ndarray  # float32 [vertex, 3]
    normals: np.ndarray  # float32 [vertex, 3] unit vectors, outward
    triangles: np.ndarray  # int32 [triangle, 3]
    part: np.ndarray  # int32 [triangle]
    coordinates: np.ndarray | None = None  # float32 [vertex, 2] to the right and up, in tiles
    colours: np.ndarray | None = None  # float32 [vertex, 3] times the material's; with coordinates

    def from_both_sides(self) -> "TriangleMesh":
        """Every triangle twice, for surfaces that do not enclose anything."""
        return join([self, self.flipped()])

    def flipped(self) -> "TriangleMesh":
        """The same surface seen from its other side."""
        return dataclasses.replace(
            self, normals=-self.normals, triangles=self.triangles[:, ::-1].copy()
        )

    def moved(self, scale: float, offset: np.ndarray) -> "TriangleMesh":
        """Positions times `scale` (above 0) plus `offset` [3]."""
        vertices = (self.vertices * scale + offset).astype(np.float32)
        return dataclasses.replace(self, vertices=vertices)


def join(surfaces: Sequence[TriangleMesh]) -> TriangleMesh:
    """All triangles of some surfaces in one; all have texture coordinates, and colours, or none."""
    given = [surface.coordinates for surface in surfaces if surface.coordinates is not None]
    colours = [surface.colours for surface in surfaces if surface.colours is not None]
    starts = np.cumsum([0, *(len(surface.vertices) for surface in surfaces[:-1])])
    return TriangleMesh(
        np.concatenate([surface.vertices for surface in surfaces]),
        np.concatenate([surface.normals for surface in surfaces]),
        np.concatenate(
            [surface.triangles + start for surface, start in zip(surfaces, starts, strict=True)]
        ).astype(np.int32),
        np.concatenate([surface.part for surface in surfaces]),
        np.concatenate(given) if given else None,
        np.concatenate(colours) if colours else None,
    )


def grid_triangles(points: np.ndarray, part: int = 0) -> TriangleMesh:
    """Triangles of a surface sampled on a grid, from float [u + 3, v + 3, 3] points.

    The outermost ring of points only serves the normals: crosses of central differences. They
    point along d/du x d/dv. Rows and columns that shrink to a point take their neighbour's normal.
    """
    along_u, along_v = points[2:, 1:-1] - points[:-2, 1:-1], points[1:-1, 2:] - points[1:-1, :-2]
    normals = np.cross(along_u, along_v)
    length = np.linalg.norm(normals, axis=-1, keepdims=True)
    normals = normals / np.maximum(length, 1e-12)
    flat = length[..., 0] < 1e-9
    normals[:, 0] = np.where(flat[:, 0, None], normals[:, 1], normals[:, 0])
    normals[:, -1] = np.where(flat[:, -1, None], normals[:, -2], normals[:, -1])
    inner = points[1:-1, 1:-1]
    num_u, num_v = inner.shape[:2]
    corner = np.arange(num_u * num_v).reshape(num_u, num_v)
    a, b, c, d = corner[:-1, :-1], corner[1:, :-1], corner[1:, 1:], corner[:-1, 1:]
    triangles = np.stack([np.stack([a, b, c], -1), np.stack([a, c, d], -1)]).reshape(-1, 3)
    return TriangleMesh(
        inner.reshape(-1, 3).astype(np.float32),
        normals.reshape(-1, 3).astype(np.float32),
        triangles.astype(np.int32),
        np.full(len(triangles), part, np.int32),
    )


def triangle_soup(corners: np.ndarray, part: np.ndarray) -> TriangleMesh:
    """Triangles without shared vertices from corners [triangle, 3, 6] of position and normal."""
    flat = corners.reshape(-1, 6).astype(np.float32)
    length = np.linalg.norm(flat[:, 3:], axis=-1, keepdims=True)
    triangles = np.arange(len(flat), dtype=np.int32).reshape(-1, 3)
    return TriangleMesh(flat[:, :3], flat[:, 3:] / np.maximum(length, 1e-12), triangles, part)


def cut(surface: TriangleMesh, level: Callable[[np.ndarray], np.ndarray]) -> TriangleMesh:
    """The part of a surface where `level` (of points [3, point], to [point]) is above 0.

    Triangles on the border are subdivided, then clipped where the level, linear between their
    corners, is 0.
    """
    inside = (level(surface.vertices.T) > 0)[surface.triangles]
    whole, mixed = inside.all(axis=1), inside.any(axis=1) & ~inside.all(axis=1)
    kept = dataclasses.replace(
        surface, triangles=surface.triangles[whole], part=surface.part[whole]
    )
    if not mixed.any():
        return kept
    corners = np.concatenate([surface.vertices, surface.normals], axis=1)[surface.triangles[mixed]]
    part = surface.part[mixed]
    for _ in range(CUT_LEVELS):
        corners, part = subdivide(corners), np.tile(part, 4)
    values = level(corners[..., :3].reshape(-1, 3).T).reshape(-1, 3)
    clipped, source = clip(corners, values)
    return join([kept, triangle_soup(clipped, part[source])])


def subdivide(corners: np.ndarray) -> np.ndarray:
    """Four triangles [4 t, 3, c] in place of each of [t, 3, c]; all first ones come first."""
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    ab, bc, ca = 0.5 * (a + b), 0.5 * (b + c), 0.5 * (c + a)
    quarters = [(a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca)]
    return np.concatenate([np.stack(quarter, axis=1) for quarter in quarters])


def clip(corners: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Parts of triangles [t, 3, c] where the linear function with corner values [t, 3] is above 0.

    Returns triangles [n, 3, c] and which triangle each is a part of [n]. All columns of a corner
    are interpolated alike.
    """
    positive = values > 0
    count = positive.sum(axis=1)
    whole = np.flatnonzero(count == 3)
    pieces, source = [corners[whole]], [whole]
    for number in (1, 2):
        index = np.flatnonzero(count == number)
        lone = (positive if number == 1 else ~positive)[index].argmax(axis=1)
        order = (lone[:, None] + np.arange(3)) % 3
        tip = np.take_along_axis(corners[index], order[..., None], axis=1)
        value = np.take_along_axis(values[index], order, axis=1)
        first, others = value[:, :1], value[:, 1:]
        share = (first / np.where(first == others, 1.0, first - others))[..., None]
        border = tip[:, :1] + share * (tip[:, 1:] - tip[:, :1])
        if number == 1:
            pieces.append(np.stack([tip[:, 0], border[:, 0], border[:, 1]], axis=1))
            source.append(index)
        else:
            pieces.append(np.stack([border[:, 0], tip[:, 1], tip[:, 2]], axis=1))
            pieces.append(np.stack([border[:, 0], tip[:, 2], border[:, 1]], axis=1))
            source += [index, index]
    return np.concatenate(pieces), np.concatenate(source)
