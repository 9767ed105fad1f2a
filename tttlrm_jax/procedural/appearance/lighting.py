"""Light of scenes of triangles: sky and ground, a few distant lamps, and the shadow of the first.

World z is up. Brightness is relative: a white surface facing the first lamp comes out near 1.
"""

import dataclasses

import numpy as np

from tttlrm_jax.core.geometry.poses import look_at
from tttlrm_jax.procedural.surfaces.triangle_raster import rasterize
from tttlrm_jax.procedural.surfaces.triangles import TriangleMesh

SHADOW_SIZE = 512  # samples of the shadow map along each side
SHADOW_BIAS = 0.015  # in radii of the scene
MAX_FILLS = 2


@dataclasses.dataclass(frozen=True)
class Lights:
    """Directions towards lamps and their colours; the first casts shadows."""

    directions: np.ndarray  # float32 [lamp, 3] unit vectors
    colours: np.ndarray  # float32 [lamp, 3]
    sky: np.ndarray  # float32 [3] on what faces up
    ground: np.ndarray  # float32 [3] on what faces down


@dataclasses.dataclass(frozen=True)
class ShadowMap:
    """What the first lamp sees, by orthographic projection."""

    axes: np.ndarray  # float32 [3, 3] rows: right, down, away from the lamp
    nearest: np.ndarray  # float32 [SHADOW_SIZE, SHADOW_SIZE] along the third axis, inf if free
    radius: float

    def lit(self, point: np.ndarray, normal: np.ndarray) -> np.ndarray:
        """Share of the lamp that reaches points [3, point] with unit normals, [point]."""
        lifted = point + np.float32(SHADOW_BIAS * self.radius) * normal
        x, y, away = self.axes @ lifted
        scale = np.float32(0.5 * SHADOW_SIZE / self.radius)
        column = scale * x + np.float32(0.5 * SHADOW_SIZE - 0.5)
        row = scale * y + np.float32(0.5 * SHADOW_SIZE - 0.5)
        reach = away - np.float32(SHADOW_BIAS * self.radius)
        flat = self.nearest.ravel()
        left, top = np.floor(column), np.floor(row)
        share_x, share_y = column - left, row - top
        columns, rows = (
            [np.clip(first + step, 0, SHADOW_SIZE - 1).astype(np.int64) * stride for step in (0, 1)]
            for first, stride in ((left, 1), (top, SHADOW_SIZE))
        )
        total = np.zeros(point.shape[1], np.float32)
        for down, weight_y in zip(rows, (1 - share_y, share_y), strict=True):
            for right, weight_x in zip(columns, (1 - share_x, share_x), strict=True):
                blocker = flat.take(down + right, mode="clip")
                total += weight_x * weight_y * (reach < blocker)
        return total


def random_lights(rng: np.random.Generator) -> Lights:
    """A key lamp mostly from above, none to two weaker ones, sky and ground; tints vary."""
    count = 1 + int(rng.integers(MAX_FILLS + 1))
    directions = rng.normal(size=(count, 3)) + np.array([0.0, 0.0, 1.2])
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    strength = np.concatenate([rng.uniform(0.45, 0.75, 1), rng.uniform(0.08, 0.25, count - 1)])
    warmth = rng.choice([0.03, 0.15]) * rng.uniform(-1.0, 1.0, (count, 1))
    tint = 1.0 + warmth * np.array([1.0, 0.1, -1.0])
    ambient = rng.uniform(0.45, 0.75)
    return Lights(
        directions.astype(np.float32),
        (strength[:, None] * tint).astype(np.float32),
        (ambient * np.array([0.97, 1.0, 1.05])).astype(np.float32),
        (ambient * rng.uniform(0.6, 0.95) * np.array([1.04, 1.0, 0.95])).astype(np.float32),
    )


def shadow_map(surface: TriangleMesh, lights: Lights, radius: float) -> ShadowMap:
    """Casts the surface, which lies within `radius` of the origin, from the first lamp."""
    lamp = lights.directions[0].astype(np.float64)
    axes = look_at(lamp[None], np.zeros((1, 3)), np.array([0.1, 0.2, 1.0]))[0, :3, :3].T
    seen = surface.vertices @ axes.T
    scale = 0.5 * SHADOW_SIZE / radius
    corners = np.concatenate([scale * seen[:, :2] + 0.5 * SHADOW_SIZE, -seen[:, 2:]], axis=1)
    hits = rasterize(corners[surface.triangles], SHADOW_SIZE, SHADOW_SIZE)
    return ShadowMap(axes.astype(np.float32), -hits.nearness, radius)


def shade(
    lights: Lights,
    shadows: ShadowMap | None,
    point: np.ndarray,
    normal: np.ndarray,
    to_camera: np.ndarray,
    albedo: np.ndarray,
    gloss: float,
    shininess: float,
) -> np.ndarray:
    """Unclipped colours [3, point] of points, unit vectors and albedo [3, point]."""
    up = 0.5 + 0.5 * normal[2]
    light = lights.ground[:, None] + up * (lights.sky - lights.ground)[:, None]
    shine = np.float32(0.0)
    for number, (direction, colour) in enumerate(
        zip(lights.directions, lights.colours[:, :, None], strict=True)
    ):
        facing = np.maximum(direction @ normal, 0.0)
        visible = np.float32(1.0)
        if number == 0 and shadows is not None:
            visible = _lit_where_facing(shadows, point, normal, facing)
        light += (facing * visible) * colour
        if gloss > 0:
            half = to_camera + direction[:, None]
            half /= np.maximum(np.sqrt((half * half).sum(axis=0)), 1e-6)
            glint = np.maximum((half * normal).sum(axis=0), 0.0) ** np.float32(shininess)
            shine = shine + (gloss * glint * visible * (facing > 0)) * colour
    return albedo * light + shine


def _lit_where_facing(shadows: ShadowMap, point, normal, facing) -> np.ndarray:
    """`ShadowMap.lit` of the points that face the lamp, 0 of the others: they are dark anyway."""
    chosen, out = np.flatnonzero(facing > 0), np.zeros(len(facing), np.float32)
    out[chosen] = shadows.lit(point[:, chosen], normal[:, chosen])
    return out
