"""Procedural rooms for scene-level training, in the spirit of MegaSynth, with code of our own.

A room is a box seen from inside. Clusters of sculptures float or stand around its middle, the
origin; boxes and more clusters stand along the walls. Cameras are `min_distance` to `max_distance`
away from the middle and look at points around it; every pixel is covered. World z is up.
"""

import dataclasses

import numpy as np

from tttlrm_jax.config import SyntheticConfig
from tttlrm_jax.core.geometry.poses import look_at
from tttlrm_jax.procedural.appearance.lighting import random_lights, shadow_map
from tttlrm_jax.procedural.appearance.materials import Material, random_material
from tttlrm_jax.procedural.sculptures import Group, joined, random_count, random_group
from tttlrm_jax.procedural.surfaces.solids import Placed
from tttlrm_jax.procedural.surfaces.triangle_views import TriangleScene, rendered_scene

ROOM_VERSION = 1  # part of the cache key: raise it when the same seed gives other pixels
MIDDLE = 1.1  # radius of the ball around the origin that holds the clusters in the middle
MARGIN = 0.3  # at least between a camera and a wall, the floor or what stands along the walls
DETAIL = (6, 11)  # grid steps along small and large solids
LOOK_RADIUS = 0.7  # cameras look at points so near to the origin
NUM_MIDDLE = (2, 4)  # clusters, inclusive
NUM_BY_WALL = (1, 3), (2, 6)  # the sum of two draws, inclusive; boxes and clusters in turn


@dataclasses.dataclass(frozen=True)
class Shell:
    """The inside of a room: x and y within +-half, z from floor to ceiling."""

    half: np.ndarray  # [2]
    floor: float
    ceiling: float


def render_furnished_room(seed: int, config: SyntheticConfig) -> dict[str, np.ndarray]:
    """All views of the room with this seed; arrays as `objects.render_object` returns them."""
    rng = np.random.default_rng([ROOM_VERSION, seed, 2])
    scene, shell = random_furnished_room(rng, config)
    poses, intrinsics = room_cameras(rng, config, shell)
    return rendered_scene(scene, poses, intrinsics, config)


def random_furnished_room(
    rng: np.random.Generator, config: SyntheticConfig
) -> tuple[TriangleScene, Shell]:
    """A lit room with materials; cameras within `config.max_distance` of the origin are free."""
    half = config.max_distance + rng.uniform(0.9, 2.0, 2)
    shell = Shell(half, floor=-rng.uniform(0.9, 1.4), ceiling=rng.uniform(1.7, 2.6))
    free = config.max_distance + MARGIN
    contents = joined(_in_the_middle(rng, config) + _along_the_walls(rng, config, shell, free))
    sides = _shell_sides(shell)
    lights = random_lights(rng)
    materials = [random_material(rng) for _ in contents.centres]
    materials += [_wall_material(rng) for _ in sides.centres]
    shadows = shadow_map(contents.surface, lights, float(np.hypot(*shell.half)) + 1.0)
    room = joined([contents, sides])
    return room.scene(materials, lights, shadows, planar_from=len(contents.centres)), shell


def room_cameras(
    rng: np.random.Generator, config: SyntheticConfig, shell: Shell
) -> tuple[np.ndarray, np.ndarray]:
    """Poses float64 [view, 4, 4] and intrinsics float64 [view, 4]; one field of view per scene."""
    count = config.num_views
    half_fov = 0.5 * np.radians(rng.uniform(config.min_fov, config.max_fov))
    distance = rng.uniform(config.min_distance, config.max_distance, count)
    low, high = np.sin(np.radians([config.min_elevation, config.max_elevation]))
    height = distance * rng.uniform(low, high, count)
    height = np.clip(height, shell.floor + MARGIN, shell.ceiling - MARGIN)
    span = np.radians(config.azimuth_span)
    azimuth = rng.uniform(0.0, 2 * np.pi) + rng.uniform(-0.5 * span, 0.5 * span, count)
    away = np.sqrt(np.maximum(distance**2 - height**2, 0.0))
    position = np.stack([away * np.cos(azimuth), away * np.sin(azimuth), height], axis=-1)
    target = rng.normal(size=(count, 3))
    target *= LOOK_RADIUS * rng.uniform(0, 1, (count, 1)) / np.linalg.norm(target, axis=1)[:, None]
    poses = look_at(position, target, np.array([0.0, 0.0, 1.0]))
    focal = 0.5 * min(config.height, config.width) / np.tan(half_fov)
    intrinsics = np.array([focal, focal, 0.5 * config.width, 0.5 * config.height])
    return poses, np.tile(intrinsics, (count, 1))


def _in_the_middle(rng: np.random.Generator, config: SyntheticConfig) -> list[Group]:
    """Clusters within `MIDDLE` of the origin."""
    groups = []
    for _ in range(rng.integers(NUM_MIDDLE[0], NUM_MIDDLE[1] + 1)):
        group = random_group(rng, _cluster_size(rng, config), DETAIL)
        radius = rng.uniform(0.35, 0.7)
        direction = rng.normal(size=3) * [1.0, 1.0, 0.6]
        offset = direction / np.linalg.norm(direction) * rng.uniform(0.3, 1.0) * (MIDDLE - radius)
        groups.append(group.moved(radius / group.radius, offset))
    return groups


def _along_the_walls(rng: np.random.Generator, config, shell: Shell, free: float) -> list[Group]:
    """Clusters and boxes on the floor, farther than `free` from the vertical axis."""
    groups = []
    count = sum(rng.integers(fewest, most + 1) for fewest, most in NUM_BY_WALL)
    for number in range(count):
        if number % 2:
            group = random_group(rng, _cluster_size(rng, config), DETAIL)
        else:
            group = _box(rng)
        angle = rng.uniform(0.0, 2 * np.pi)
        direction = np.array([np.cos(angle), np.sin(angle)])
        to_wall = (shell.half / np.maximum(np.abs(direction), 1e-9)).min()
        room = to_wall - free  # along the direction, for the cluster's whole width
        radius = min(rng.uniform(0.4, 1.0), 0.5 * room)
        across = rng.uniform(free + radius, max(to_wall - radius, free + radius))
        group = group.moved(radius / group.radius, np.zeros(3))
        bottom = group.surface.vertices[group.surface.triangles.ravel(), 2].min()
        groups.append(group.moved(1.0, np.array([*(across * direction), shell.floor - bottom])))
    return groups


def _cluster_size(rng: np.random.Generator, config: SyntheticConfig) -> int:
    return random_count(rng, config.min_primitives, min(config.max_primitives, 4))


def _box(rng: np.random.Generator) -> Group:
    """An upright box, turned about z."""
    angle = rng.uniform(0.0, np.pi)
    c, s = np.cos(angle), np.sin(angle)
    turn = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
    size = rng.uniform([0.3, 0.3, 0.3], [0.8, 0.8, 1.5])
    surface = Placed("box", turn * size, np.zeros(3)).surface(1)
    return Group(surface, turn[None], np.zeros((1, 3)), float(np.linalg.norm(size)))


def _shell_sides(shell: Shell) -> Group:
    """Floor, ceiling and walls as three parts, seen from inside."""
    size = np.array([*shell.half, 0.5 * (shell.ceiling - shell.floor)])
    centre = np.array([0.0, 0.0, 0.5 * (shell.ceiling + shell.floor)])
    surface = Placed("box", np.diag(size), centre).surface(1).flipped()
    up = surface.normals[surface.triangles[:, 0], 2]
    part = np.where(up > 0.5, 0, np.where(up < -0.5, 1, 2)).astype(np.int32)
    surface = dataclasses.replace(surface, part=part)
    return Group(surface, np.tile(np.eye(3), (3, 1, 1)), np.tile(centre, (3, 1)), float(size.max()))


def _wall_material(rng: np.random.Generator) -> Material:
    """A pattern without highlights, of larger tiles."""
    material = random_material(rng, patterned=True)
    return dataclasses.replace(material, tile=2.0 * material.tile, gloss=0.0)
