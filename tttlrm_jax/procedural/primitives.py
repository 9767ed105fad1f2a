"""Ray casting of unit primitives in their own frames, vectorised NumPy.

Every primitive fits the cube [-1, 1]^3. `intersect(origin [3, 1], direction [3, ray])` returns the
ray parameter [ray] of the first surface point in front of an outside origin, inf where there is
none; directions keep their length, so parameters survive affine maps. `normal(point [3, ray])`
returns outward normals of any length at surface points.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

TORUS_RADIUS, TORUS_TUBE = 0.7, 0.3
TORUS_STEPS = 128  # of sphere tracing; rays still moving afterwards only graze and miss
TORUS_TOLERANCE = 1e-4


class Primitive(NamedTuple):
    """A shape: its first ray intersection and its outward normal."""

    intersect: Callable[[np.ndarray, np.ndarray], np.ndarray]
    normal: Callable[[np.ndarray], np.ndarray]


def _quadratic(a, half_b, c):
    """Both roots of a t^2 + 2 half_b t + c, lower first where a > 0; NaN where there are none."""
    root = np.sqrt(half_b * half_b - a * c)
    return (-half_b - root) / a, (-half_b + root) / a


def dot(a, b):
    """Of three numbers or rows with three others, in this order to the bit."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _first(*candidates):
    """The smallest candidate parameter, inf where all are NaN or negative."""
    best = np.full(candidates[0].shape, np.inf, candidates[0].dtype)
    for t in candidates:
        best = np.where((t > 0) & (t < best), t, best)
    return best


def _slab(origin, direction):
    """Entry and exit parameter of -1 <= coordinate <= 1."""
    inverse = 1.0 / direction
    one, two = (-1.0 - origin) * inverse, (1.0 - origin) * inverse
    return np.minimum(one, two), np.maximum(one, two)


def _hit_sphere(origin, direction):
    squared = dot(direction, direction)
    return _first(_quadratic(squared, dot(origin, direction), dot(origin, origin) - 1.0)[0])


def _hit_box(origin, direction):
    near, far = _slab(origin, direction)
    enter = np.maximum(np.maximum(near[0], near[1]), near[2])
    leave = np.minimum(np.minimum(far[0], far[1]), far[2])
    return np.where((enter <= leave) & (enter > 0), enter, np.inf)


def _normal_box(point):
    size = np.abs(point)
    return np.where(size >= size.max(axis=0), np.sign(point), 0.0)


def _hit_cylinder(origin, direction):
    """Radius 1 around z, |z| <= 1: the overlap of an endless cylinder and a slab."""
    enter, leave = _quadratic(
        direction[0] ** 2 + direction[1] ** 2,
        origin[0] * direction[0] + origin[1] * direction[1],
        origin[0] ** 2 + origin[1] ** 2 - 1.0,
    )
    near, far = _slab(origin[2], direction[2])
    enter = np.maximum(enter, near)
    return np.where((enter <= np.minimum(leave, far)) & (enter > 0), enter, np.inf)


def _normal_cylinder(point):
    x, y, z = point
    cap = z * z > x * x + y * y
    return np.stack([np.where(cap, 0.0, x), np.where(cap, 0.0, y), np.where(cap, z, 0.0)])


def _hit_cone(origin, direction):
    """Apex at z = 1, base disc of radius 1 at z = -1: x^2 + y^2 = ((1 - z) / 2)^2."""
    height, slope = 0.5 * (1.0 - origin[2]), -0.5 * direction[2]
    sides = _quadratic(
        direction[0] ** 2 + direction[1] ** 2 - slope**2,
        origin[0] * direction[0] + origin[1] * direction[1] - height * slope,
        origin[0] ** 2 + origin[1] ** 2 - height**2,
    )
    sides = [np.where(np.abs(origin[2] + t * direction[2]) <= 1.0, t, np.inf) for t in sides]
    base = (-1.0 - origin[2]) / direction[2]
    x, y = origin[0] + base * direction[0], origin[1] + base * direction[1]
    return _first(*sides, np.where(x * x + y * y <= 1.0, base, np.inf))


def _normal_cone(point):
    x, y, z = point
    radius = np.sqrt(x * x + y * y)
    base = np.abs(z + 1.0) < np.abs(radius - 0.5 * (1.0 - z))
    return np.stack(
        [np.where(base, 0.0, x), np.where(base, 0.0, y), np.where(base, -1.0, 0.5 * radius)]
    )


def _torus_distance(point):
    ring = np.sqrt(point[0] ** 2 + point[1] ** 2) - TORUS_RADIUS
    return np.sqrt(ring * ring + point[2] ** 2) - TORUS_TUBE


def _hit_torus(origin, direction):
    """Sphere tracing inside the enclosing ball."""
    speed = np.sqrt(dot(direction, direction))
    near, far = _quadratic(speed**2, dot(origin, direction), dot(origin, origin) - 1.0)
    t = np.where(near > 0, near, np.inf)
    active = np.flatnonzero(np.isfinite(t))
    for _ in range(TORUS_STEPS):
        if not active.size:
            break
        distance = _torus_distance(origin + t[active] * direction[:, active])
        t[active] += distance / speed[active]
        t[active[t[active] > far[active]]] = np.inf
        active = active[(distance > TORUS_TOLERANCE) & np.isfinite(t[active])]
    t[active] = np.inf
    return t


def _normal_torus(point):
    x, y, z = point
    shrink = 1.0 - TORUS_RADIUS / np.sqrt(x * x + y * y)
    return np.stack([x * shrink, y * shrink, z])


PRIMITIVES: dict[str, Primitive] = {
    "sphere": Primitive(_hit_sphere, lambda point: point),
    "box": Primitive(_hit_box, _normal_box),
    "cylinder": Primitive(_hit_cylinder, _normal_cylinder),
    "cone": Primitive(_hit_cone, _normal_cone),
    "torus": Primitive(_hit_torus, _normal_torus),
}
