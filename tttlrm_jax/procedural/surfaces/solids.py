"""Unit solids as triangles: surfaces on grids, insides as level functions, height fields, wires.

Every solid fits the cube [-1, 1]^3. A height field `h` of directions moves a point `p` of it to
`p (1 + h(p / |p|))`, so that its inside stays known exactly.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from tttlrm_jax.procedural.primitives import TORUS_RADIUS, TORUS_TUBE
from tttlrm_jax.procedural.surfaces.triangles import (
    TriangleMesh,
    grid_triangles,
    join,
    triangle_soup,
)

NUM_WAVES = 6
WIRE_SIDES = 6

Grid = Callable[[np.ndarray, np.ndarray], np.ndarray]  # u, v in [-1, 1] to points [..., 3]


@dataclasses.dataclass(frozen=True)
class Patch:
    """A smooth piece of a surface; d/du x d/dv points outward. Steps are per unit of detail."""

    grid: Grid
    u_steps: float = 1.0
    v_steps: float = 1.0


@dataclasses.dataclass(frozen=True)
class Solid:
    """Patches of the surface, and a function of points [3, point], negative inside."""

    patches: tuple[Patch, ...]
    level: Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class HeightField:
    """`amplitude` times a mean of sine waves over directions."""

    amplitude: float
    frequencies: np.ndarray  # [NUM_WAVES, 3]
    phases: np.ndarray  # [NUM_WAVES]

    def factor(self, points: np.ndarray) -> np.ndarray:
        """1 + h of the directions of points [..., 3], as [..., 1]."""
        length = np.linalg.norm(points, axis=-1, keepdims=True)
        direction = points / np.maximum(length, 1e-9)
        waves = np.sin(direction @ self.frequencies.T + self.phases)
        return 1.0 + self.amplitude * waves.mean(axis=-1, keepdims=True)


@dataclasses.dataclass(frozen=True)
class Placed:
    """A solid in its scene: world = linear @ local + centre, after its height field."""

    kind: str
    linear: np.ndarray  # [3, 3], determinant above 0
    centre: np.ndarray  # [3]
    heights: HeightField | None = None

    def to_world(self, points: np.ndarray) -> np.ndarray:
        """World points [..., 3] of points of the unit solid."""
        if self.heights is not None:
            points = points * self.heights.factor(points)
        return points @ self.linear.T + self.centre

    def level(self, world: np.ndarray) -> np.ndarray:
        """The solid's level function at world points [3, point], to [point]."""
        local = np.linalg.inv(self.linear) @ (world - self.centre[:, None])
        if self.heights is not None:
            local = (local.T / self.heights.factor(local.T)).T
        return SOLIDS[self.kind].level(local)

    def surface(self, detail: int, part: int = 0) -> TriangleMesh:
        """Its surface with `detail` grid steps along an edge of a box, more around a circle."""
        grids = [
            self.to_world(_sample(patch, detail, ring=True)) for patch in SOLIDS[self.kind].patches
        ]
        return join([grid_triangles(grid, part) for grid in grids])

    def wires(self, detail: int, radius: float, part: int = 0) -> TriangleMesh:
        """Tubes along the grid lines of its surface; `radius` in world units."""
        segments = []
        for patch in SOLIDS[self.kind].patches:
            points = self.to_world(_sample(patch, detail, ring=False))
            for start, stop in ((points[:-1], points[1:]), (points[:, :-1], points[:, 1:])):
                segments.append(np.stack([start, stop], axis=-2).reshape(-1, 2, 3))
        return tubes(np.concatenate(segments), radius, part)


def random_heights(rng: np.random.Generator, amplitude: float) -> HeightField:
    """A height field of one to a few bumps around the solid."""
    frequencies = rng.normal(size=(NUM_WAVES, 3)) * rng.uniform(1.5, 4.5)
    return HeightField(amplitude, frequencies, rng.uniform(0.0, 2 * np.pi, NUM_WAVES))


def tubes(segments: np.ndarray, radius: float, part: int = 0) -> TriangleMesh:
    """Hexagonal tubes with pointed ends along segments [segment, 2, 3]; those of length 0 drop."""
    along = segments[:, 1] - segments[:, 0]
    length = np.linalg.norm(along, axis=-1)
    segments, along = segments[length > 1e-6], along[length > 1e-6]
    along = along / np.linalg.norm(along, axis=-1, keepdims=True)
    helper = np.eye(3)[np.abs(along).argmin(axis=-1)]
    side = np.cross(along, helper)
    side /= np.linalg.norm(side, axis=-1, keepdims=True)
    other = np.cross(along, side)
    angle = 2 * np.pi * np.arange(WIRE_SIDES + 1) / WIRE_SIDES
    normal = side[:, None] * np.cos(angle)[:, None] + other[:, None] * np.sin(angle)[:, None]
    rings = segments[:, :, None] + radius * normal[:, None]
    tips = segments + radius * np.stack([-along, along], axis=1)

    def corner(position, direction):
        return np.concatenate(np.broadcast_arrays(position, direction), axis=-1)

    low, high = corner(rings[:, 0], normal), corner(rings[:, 1], normal)
    start = corner(tips[:, :1], -along[:, None]).repeat(WIRE_SIDES, axis=1)
    stop = corner(tips[:, 1:], along[:, None]).repeat(WIRE_SIDES, axis=1)
    triangles = [
        (low[:, :-1], low[:, 1:], high[:, 1:]), (low[:, :-1], high[:, 1:], high[:, :-1]),
        (start, low[:, 1:], low[:, :-1]), (stop, high[:, :-1], high[:, 1:]),
    ]  # fmt: skip
    corners = np.concatenate([np.stack(three, axis=2).reshape(-1, 3, 6) for three in triangles])
    return triangle_soup(corners, np.full(len(corners), part, np.int32))


def _sample(patch: Patch, detail: int, ring: bool) -> np.ndarray:
    """Points of a patch on its grid, with a ring beyond its border or without."""
    axes = []
    for steps in (patch.u_steps, patch.v_steps):
        number = max(1, round(detail * steps))
        axes.append(-1.0 + 2.0 * np.arange(-1 if ring else 0, number + (2 if ring else 1)) / number)
    return patch.grid(*np.meshgrid(*axes, indexing="ij"))


def _face(axis: int, sign: int, bend: bool) -> Patch:
    """A side of a box or, with `bend`, of a sphere made from one."""
    normal = sign * np.eye(3)[axis]
    along = np.eye(3)[(axis + 1) % 3]
    across = np.cross(normal, along)

    def grid(u, v):
        if bend:
            u, v = np.tan(0.25 * np.pi * u), np.tan(0.25 * np.pi * v)
        points = u[..., None] * along + v[..., None] * across + normal
        return points / np.linalg.norm(points, axis=-1, keepdims=True) if bend else points

    return Patch(grid)


def _around(radius: Callable, height: Callable, sense: int = 1) -> Grid:
    """A surface of revolution about z: u is the angle, v moves along the profile."""

    def grid(u, v):
        angle = sense * np.pi * u
        return np.stack([radius(v) * np.cos(angle), radius(v) * np.sin(angle), height(v)], axis=-1)

    return grid


def _disc(z: float) -> Patch:
    """A disc of radius 1 that faces away from z = 0."""
    sense = -1 if z > 0 else 1
    return Patch(_around(lambda v: 0.5 * (v + 1), lambda v: np.full_like(v, z), sense), 3.0, 0.4)


def _level_cone(point: np.ndarray) -> np.ndarray:
    x, y, z = point
    return np.maximum(np.hypot(x, y) - 0.5 * (1.0 - z), -1.0 - z)


_TORUS = _around(
    lambda v: TORUS_RADIUS + TORUS_TUBE * np.cos(np.pi * v),
    lambda v: TORUS_TUBE * np.sin(np.pi * v),
)
_SIDES = [(axis, sign) for axis in range(3) for sign in (-1, 1)]
SOLIDS: dict[str, Solid] = {
    "sphere": Solid(
        tuple(_face(axis, sign, True) for axis, sign in _SIDES),
        lambda point: np.linalg.norm(point, axis=0) - 1.0,
    ),
    "box": Solid(
        tuple(_face(axis, sign, False) for axis, sign in _SIDES),
        lambda point: np.abs(point).max(axis=0) - 1.0,
    ),
    "cylinder": Solid(
        (Patch(_around(np.ones_like, lambda v: v), 3.0), _disc(1.0), _disc(-1.0)),
        lambda point: np.maximum(np.hypot(point[0], point[1]), np.abs(point[2])) - 1.0,
    ),
    "cone": Solid(
        (Patch(_around(lambda v: 0.5 * (1.0 - v), lambda v: v), 3.0), _disc(-1.0)), _level_cone
    ),
    "torus": Solid(
        (Patch(_TORUS, 3.0, 1.5),),
        lambda point: np.hypot(np.hypot(point[0], point[1]) - TORUS_RADIUS, point[2]) - TORUS_TUBE,
    ),
}
