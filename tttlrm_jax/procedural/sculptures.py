"""Procedural objects of triangles, in the spirit of LRM-Zero's Zeroverse, with code of our own.

One to nine solids with random scales and rotations that touch one another; some swell by a smooth
height field, some have a bite taken out, some are wires; each has a material of its own, and all
stand under a few lamps, the first of which casts shadows. The object lies in the unit ball.
"""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

from tttlrm_jax.config import SyntheticConfig
from tttlrm_jax.procedural.appearance.lighting import Lights, ShadowMap, random_lights, shadow_map
from tttlrm_jax.procedural.appearance.materials import Material, random_material
from tttlrm_jax.procedural.appearance.textures import random_rotation
from tttlrm_jax.procedural.objects import random_cameras, touching_centres
from tttlrm_jax.procedural.surfaces.solids import SOLIDS, Placed, random_heights
from tttlrm_jax.procedural.surfaces.triangle_views import TriangleScene, rendered_scene
from tttlrm_jax.procedural.surfaces.triangles import TriangleMesh, cut, join

SCULPTURE_VERSION = 1  # part of the cache key: raise it when the same seed gives other pixels
COUNT_WEIGHTS = (5, 5, 5, 4, 4, 3, 2, 1, 1)  # of one to nine solids
SWELL_SHARE, CUT_SHARE, WIRE_SHARE = 0.5, 0.25, 0.1  # of solids; wires are never cut
DETAIL = (10, 18)  # grid steps along a solid: for small and large ones


@dataclasses.dataclass(frozen=True)
class Group:
    """Solids around the origin, within `radius`, and the frames of their textures; k parts."""

    surface: TriangleMesh
    rotations: np.ndarray  # [k, 3, 3] world from part
    centres: np.ndarray  # [k, 3]
    radius: float

    def moved(self, scale: float, offset: np.ndarray) -> "Group":
        """The group scaled about the origin, then moved."""
        return Group(
            self.surface.moved(scale, offset), self.rotations, scale * self.centres + offset,
            scale * self.radius,
        )  # fmt: skip

    def scene(self, materials: Iterable[Material], lights: Lights, shadows: ShadowMap, **options):
        """Its parts with their materials; `options` as of `TriangleScene`."""
        return TriangleScene(
            self.surface, tuple(materials), self.rotations.transpose(0, 2, 1).astype(np.float32),
            self.centres.astype(np.float32), lights, shadows, **options,
        )  # fmt: skip


def joined(groups: Sequence[Group]) -> Group:
    """All solids of some groups in one, parts numbered on; its radius is the largest."""
    starts = np.cumsum([0, *(len(group.centres) for group in groups[:-1])]).astype(np.int32)
    surfaces = [
        dataclasses.replace(group.surface, part=group.surface.part + start)
        for group, start in zip(groups, starts, strict=True)
    ]
    rotations, centres = ([getattr(g, name) for g in groups] for name in ("rotations", "centres"))
    radius = max(group.radius for group in groups)
    return Group(join(surfaces), np.concatenate(rotations), np.concatenate(centres), radius)


def render_sculpture(seed: int, config: SyntheticConfig) -> dict[str, np.ndarray]:
    """All views of the object with this seed; arrays as `objects.render_object` returns them."""
    rng = np.random.default_rng([SCULPTURE_VERSION, seed, 1])
    scene, radius = random_sculpture(rng, config)
    poses, intrinsics = random_cameras(rng, config, radius)
    return rendered_scene(scene, poses, intrinsics, config)


def random_sculpture(
    rng: np.random.Generator, config: SyntheticConfig
) -> tuple[TriangleScene, float]:
    """A lit object with materials, and the radius of the ball around the origin that holds it."""
    group = random_group(rng, random_count(rng, config.min_primitives, config.max_primitives))
    group = group.moved(rng.uniform(0.7, 1.0) / group.radius, np.zeros(3))
    lights = random_lights(rng)
    materials = [random_material(rng) for _ in group.centres]
    shadows = shadow_map(group.surface, lights, 1.01 * group.radius)
    return group.scene(materials, lights, shadows), group.radius


def random_count(rng: np.random.Generator, least: int, most: int) -> int:
    """Number of solids by `COUNT_WEIGHTS`, within limits; beyond nine all are equally likely."""
    numbers = np.arange(least, most + 1)
    weights = np.array([COUNT_WEIGHTS[min(n, len(COUNT_WEIGHTS)) - 1] for n in numbers], float)
    return int(rng.choice(numbers, p=weights / weights.sum()))


def random_group(rng: np.random.Generator, count: int, detail: tuple[int, int] = DETAIL) -> Group:
    """Solids that touch, each with or without swelling, a bite or as wires; centred in its ball."""
    kinds = [list(SOLIDS)[i] for i in rng.integers(len(SOLIDS), size=count)]
    scales = rng.uniform(0.35, 1.0, (count, 1)) * rng.uniform(0.3, 1.0, (count, 3))
    reach = 1.2 * np.linalg.norm(scales, axis=1) / np.sqrt(2.0)
    centres = touching_centres(rng, reach, (0.3, 0.7))
    rotations = np.stack([random_rotation(rng) for _ in kinds])
    size = np.linalg.norm(centres[:, None] - centres.mean(axis=0), axis=-1).max() + reach.max()
    surfaces = [
        _solid_surface(rng, kind, rotation * scale, centre, (size, detail), part)
        for part, (kind, rotation, scale, centre) in enumerate(
            zip(kinds, rotations, scales, centres, strict=True)
        )
    ]
    surface = join(surfaces)
    used = surface.vertices[surface.triangles.ravel()]
    middle = 0.5 * (used.min(axis=0) + used.max(axis=0))
    radius = float(np.linalg.norm(used - middle, axis=1).max())
    return Group(surface.moved(1.0, -middle), rotations, centres - middle, radius)


def _solid_surface(rng, kind, linear, centre, measure, part) -> TriangleMesh:
    """`measure` is about the radius of the whole object, and the grid steps of small and large."""
    size, (coarse, fine) = measure
    heights = None
    if rng.random() < SWELL_SHARE:
        heights = random_heights(rng, rng.uniform(0.3, 0.9))
    solid = Placed(kind, linear, centre, heights)
    extent = float(np.linalg.norm(linear, axis=0).max())
    if rng.random() < WIRE_SHARE:
        return solid.wires(int(rng.integers(2, 6)), size * rng.uniform(0.012, 0.03), part)
    detail = round(coarse + (fine - coarse) * min(1.0, extent / size))
    surface = solid.surface(detail, part)
    if rng.random() >= CUT_SHARE:
        return surface
    tool = _random_tool(rng, solid, extent)
    inner = cut(tool.surface(detail, part), lambda point: -solid.level(point)).flipped()
    outer = cut(surface, tool.level)
    if len(outer.triangles) < 0.25 * len(surface.triangles):  # nearly all of it would be gone
        return surface
    return join([outer, inner])


def _random_tool(rng: np.random.Generator, solid: Placed, extent: float) -> Placed:
    """A sphere, box or cylinder around a random point of the solid's surface."""
    surface = solid.surface(2).vertices
    kind = ("sphere", "box", "cylinder")[rng.integers(3)]
    scale = extent * rng.uniform(0.3, 0.7) * rng.uniform(0.6, 1.0, 3)
    return Placed(kind, random_rotation(rng) * scale, surface[rng.integers(len(surface))])
