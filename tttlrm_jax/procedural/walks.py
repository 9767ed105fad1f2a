"""Procedural rooms: walks of a camera through textured boxes, with exact depth and poses.

A room is a box seen from inside, with boxes along its walls, on the floor and hanging; every wall
and box has its own solid texture, shaded by the direction it faces. World units are metres, z is
up, the origin is the middle of the floor. Cameras are OpenCV pinholes with pixel centres at +0.5,
and walk in the middle of the room that boxes leave free. Everything follows from the seed; the
walk is a function of time, so a longer sequence begins with the shorter one of the same seed.

In rooms with a `compass` each of the six sides has its own hue, the same in every room, and boxes
are nearly grey. One picture then tells where its camera looks and stands in its room; how that
relates to the first camera is left for a state to remember.
"""

import dataclasses
from pathlib import Path

import numpy as np
from PIL import Image

from tttlrm_jax.captures.pictures.depth_files import write_png_depth
from tttlrm_jax.config.data import WalkConfig
from tttlrm_jax.procedural.appearance.textures import Texture, hsv_to_rgb, planes, random_texture

WALK_VERSION = 1  # raise it when the same seed gives other pixels
FRAMES_AT_A_TIME = 8  # rays of so many frames are held at once
FREE_SHARE = 0.45  # of a room's half sides, from its middle: no box reaches into it
EYE_HEIGHTS = (1.0, 1.8)  # metres
NUM_WAVES = 3  # sines that make up each coordinate of a walk
TEXTURE_SCALE = 0.5  # texture units per metre: two to six cycles become one to three a metre
WALL_SATURATION, BOX_SATURATION = 0.8, 0.1  # of rooms with a compass
UP_LIGHT = 0.25  # how much brighter what faces the lamp direction is


@dataclasses.dataclass(frozen=True)
class RenderedWalk:
    """Pictures of a walk with what is true of them."""

    images: np.ndarray  # uint8 [frame, height, width, 3]
    depth: np.ndarray  # float32 [frame, height, width] z in metres along pixel-centre rays
    world_from_camera: np.ndarray  # float64 [frame, 4, 4]
    intrinsics: np.ndarray  # float64 [4] fx, fy, cx, cy in pixels


@dataclasses.dataclass(frozen=True, kw_only=True)
class BoxRoom:
    """A room and its boxes; textures belong to the six walls (-x, +x, -y, .., +z), then boxes."""

    half: np.ndarray  # [3] half sides of the room, metres; its middle is at (0, 0, half z)
    centres: np.ndarray  # [box, 3]
    half_sizes: np.ndarray  # [box, 3]
    turns: np.ndarray  # [box] radians about z
    textures: tuple[Texture, ...]
    lamp: np.ndarray  # [3] unit vector


def render_walk(seed: int, num_frames: int, config: WalkConfig | None = None) -> RenderedWalk:
    """The walk of `num_frames` frames through the room with this seed."""
    config = WalkConfig() if config is None else config
    rng = np.random.default_rng([WALK_VERSION, seed])
    room = random_room(rng, config)
    poses = random_walk(rng, room, num_frames, config)
    half_fov = 0.5 * np.radians(rng.uniform(config.min_fov, config.max_fov))
    focal = 0.5 * config.width / np.tan(half_fov)
    lens = np.array([focal, focal, 0.5 * config.width, 0.5 * config.height])
    images, depth = render_room(room, poses, lens, config)
    return RenderedWalk(images, depth, poses, lens)


def write_seven_scenes(directory: Path, walk: RenderedWalk) -> None:
    """Writes a walk into a new folder as 7-Scenes are: colour, depth in millimetres, cameras."""
    directory.mkdir(parents=True)
    fx, fy, cx, cy = walk.intrinsics
    lens = np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])
    np.savetxt(directory / "camera-intrinsics.txt", lens)
    frames = zip(walk.images, walk.depth, walk.world_from_camera, strict=True)
    for number, (image, depth, pose) in enumerate(frames):
        stem = directory / f"frame-{number:06d}"
        Image.fromarray(image).save(f"{stem}.color.png")
        write_png_depth(Path(f"{stem}.depth.png"), depth)
        np.savetxt(f"{stem}.pose.txt", pose)


def strided(config: WalkConfig, stride: float) -> WalkConfig:
    """`config` with walks `stride` times as fast: every `stride`-th frame of the slower ones."""
    return dataclasses.replace(
        config, walk_speed=stride * config.walk_speed, turn_speed=stride * config.turn_speed
    )


def random_room(rng: np.random.Generator, config: WalkConfig) -> BoxRoom:
    """Draws a room; boxes stand along the walls, one in four hangs."""
    floor = rng.uniform(config.min_side, config.max_side, 2)
    half = 0.5 * np.array([*floor, rng.uniform(2.4, 3.2)])
    count = int(rng.integers(config.min_boxes, config.max_boxes + 1))
    sizes = rng.uniform(0.15, 0.6, (count, 3))
    turns = rng.uniform(0.0, np.pi, count)
    start = rng.uniform(0.0, 2 * np.pi)
    bearing = start + 2 * np.pi * (np.arange(count) + rng.random(count)) / count
    reach = np.hypot(sizes[:, 0], sizes[:, 1])
    least = FREE_SHARE * np.hypot(half[0], half[1]) + reach
    direction = np.stack([np.cos(bearing), np.sin(bearing)], axis=-1)
    to_wall = np.min(half[:2] / np.maximum(np.abs(direction), 1e-9), axis=1)
    distance = np.maximum(least, rng.uniform(0.6, 1.0, count) * to_wall)
    height = np.where(rng.random(count) < 0.25, rng.uniform(1.0, 2.2, count), sizes[:, 2])
    lamp = rng.normal(size=3) + np.array([0.0, 0.0, 1.5])
    textures = [_busy_texture(rng) for _ in range(6 + count)]
    if config.compass:
        textures = [_tinted(texture, side) for side, texture in enumerate(textures)]
    return BoxRoom(
        half=half,
        centres=np.concatenate([distance[:, None] * direction, height[:, None]], axis=1),
        half_sizes=sizes,
        turns=turns,
        textures=tuple(textures),
        lamp=lamp / np.linalg.norm(lamp),
    )


def random_walk(
    rng: np.random.Generator, room: BoxRoom, num_frames: int, config: WalkConfig
) -> np.ndarray:
    """Poses [frame, 4, 4]: a smooth path in the free middle, turning slowly in one direction."""
    reach = FREE_SHARE * room.half[:2]
    time = np.arange(num_frames)
    pace = config.walk_speed / (2 * np.pi * float(reach.mean()))  # cycles per frame
    x, y, z = (_waves(rng, time, pace * factor) for factor in (1.5, 1.5, 0.7))
    low, high = EYE_HEIGHTS[0], min(EYE_HEIGHTS[1], 2 * room.half[2] - 0.3)
    x, y = x * reach[0] / np.sqrt(2), y * reach[1] / np.sqrt(2)
    centre = np.stack([x, y, 0.5 * (low + high + (high - low) * z)], axis=-1)
    turn = np.radians(config.turn_speed)
    sense = rng.choice([-1.0, 1.0])
    start = rng.uniform(0.0, np.radians(config.start_range))
    yaw = start + sense * turn * time + 0.5 * _waves(rng, time, turn / 2)
    pitch = np.radians(12.0) * _waves(rng, time, turn / 3) - np.radians(5.0)
    roll = np.radians(4.0) * _waves(rng, time, turn / 4)
    return _poses(centre, yaw, pitch, roll)


def render_room(
    room: BoxRoom, world_from_camera: np.ndarray, intrinsics: np.ndarray, config: WalkConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [frame, height, width, 3] and depth float32 [frame, height, width].

    Cameras must be inside the room and outside of its boxes. `intrinsics` [4] are in pixels.
    """
    shape = (len(world_from_camera), config.height, config.width)
    images, depth = np.empty((*shape, 3), np.uint8), np.empty(shape, np.float32)
    steps = (np.arange(config.supersampling) + 0.5) / config.supersampling
    offsets = np.stack(np.meshgrid(steps, steps, indexing="ij"), axis=-1).reshape(-1, 2)
    rays = _camera_rays(intrinsics, config, offsets)
    middle = _camera_rays(intrinsics, config, np.array([[0.5, 0.5]]))
    with np.errstate(divide="ignore", invalid="ignore"):
        for start in range(0, shape[0], FRAMES_AT_A_TIME):
            part = slice(start, start + FRAMES_AT_A_TIME)
            poses = world_from_camera[part]
            depth[part] = _cast(room, poses, middle)[0].reshape(depth[part].shape)
            colour = _shade(room, poses, rays, *_cast(room, poses, rays))
            colour = colour.reshape(*images[part].shape[:3], len(offsets), 3).mean(axis=3)
            images[part] = np.rint(255.0 * np.clip(colour, 0.0, 1.0))
    return images, depth


def _camera_rays(intrinsics: np.ndarray, config: WalkConfig, offsets: np.ndarray) -> np.ndarray:
    """Camera directions [3, pixel * offset] with z = 1, so that the ray parameter is depth."""
    fx, fy, cx, cy = intrinsics
    row, column = np.divmod(np.arange(config.height * config.width), config.width)
    x = (column[:, None] + offsets[:, 1] - cx) / fx
    y = (row[:, None] + offsets[:, 0] - cy) / fy
    return np.stack([x, y, np.ones_like(x)]).reshape(3, -1).astype(np.float32)


def _cast(room: BoxRoom, poses: np.ndarray, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Depth and index of what is hit (walls 0 to 5, boxes from 6), [frame * ray]."""
    best, owner = [], []
    for pose in poses:
        t, hit = _cast_walls(room, pose, rays)
        for box in range(len(room.centres)):
            entry = _cast_box(room, box, pose, rays)
            nearer = entry < t
            t[nearer], hit[nearer] = entry[nearer], 6 + box
        best.append(t)
        owner.append(hit)
    return np.concatenate(best), np.concatenate(owner)


def _cast_walls(room: BoxRoom, pose: np.ndarray, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    direction = pose[:3, :3].astype(np.float32) @ rays
    origin = (pose[:3, 3] - [0.0, 0.0, room.half[2]]).astype(np.float32)
    reached = np.sign(direction) * room.half.astype(np.float32)[:, None]
    exits = np.where(direction == 0, np.inf, (reached - origin[:, None]) / direction)
    axis = exits.argmin(axis=0)
    across = np.arange(rays.shape[1])
    return exits[axis, across], 2 * axis + (direction[axis, across] > 0)


def _cast_box(room: BoxRoom, box: int, pose: np.ndarray, rays: np.ndarray) -> np.ndarray:
    """Where rays enter a box, inf where they miss it."""
    local = _box_from_world(room, box)
    origin = (local @ (pose[:3, 3] - room.centres[box])).astype(np.float32)
    half = room.half_sizes[box].astype(np.float32)
    inverse = 1.0 / ((local @ pose[:3, :3]).astype(np.float32) @ rays)
    one, two = (-half - origin)[:, None] * inverse, (half - origin)[:, None] * inverse
    enter, leave = np.minimum(one, two).max(axis=0), np.maximum(one, two).min(axis=0)
    return np.where((enter <= leave) & (enter > 0), enter, np.float32(np.inf))


def _shade(room: BoxRoom, poses, rays, t, owner) -> np.ndarray:
    """Colours [frame * ray, 3]."""
    directions = np.concatenate([pose[:3, :3].astype(np.float32) @ rays for pose in poses], axis=1)
    origins = np.repeat(poses[:, :3, 3].T.astype(np.float32), rays.shape[1], axis=1)
    point = origins + t * directions
    colour = np.empty((len(t), 3), np.float32)
    for index in np.unique(owner):
        chosen = np.flatnonzero(owner == index)
        local, normal = _surface(room, int(index), point[:, chosen])
        light = 0.75 + UP_LIGHT * (room.lamp.astype(np.float32) @ normal)
        colour[chosen] = planes(room.textures[index], local).T * light[:, None]
    return colour


def _surface(room: BoxRoom, index: int, point: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Texture coordinates [3, point] and world normals [3, point] of what is hit."""
    if index < 6:
        normal = np.zeros((3, 1), np.float32)
        normal[index // 2] = 1.0 if index % 2 == 0 else -1.0  # walls face inwards
        return np.float32(TEXTURE_SCALE) * point, np.broadcast_to(normal, point.shape)
    box = index - 6
    turn = _box_from_world(room, box).astype(np.float32)
    local = turn @ (point - room.centres[box].astype(np.float32)[:, None])
    relative = local / room.half_sizes[box].astype(np.float32)[:, None]
    size = np.abs(relative)
    normal = np.where(size >= size.max(axis=0), np.sign(relative), np.float32(0.0))
    return np.float32(2 * TEXTURE_SCALE) * local, turn.T @ normal


def _box_from_world(room: BoxRoom, box: int) -> np.ndarray:
    c, s = np.cos(room.turns[box]), np.sin(room.turns[box])
    return np.array([[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, 1.0]])


def _busy_texture(rng: np.random.Generator) -> Texture:
    """A texture with a pattern: bare walls say nothing about a camera's motion."""
    while True:
        texture = random_texture(rng)
        if texture.kind != "plain":
            return texture


def _tinted(texture: Texture, side: int) -> Texture:
    """The texture in the hue of one of the six sides; from 6 on, boxes, nearly grey."""
    value = texture.palette.max(axis=-1)
    hue = np.full(len(value), side / 6)
    saturation = np.full(len(value), WALL_SATURATION if side < 6 else BOX_SATURATION)
    palette = hsv_to_rgb(hue, saturation, value).astype(np.float32)
    return dataclasses.replace(texture, palette=palette)


def _waves(rng: np.random.Generator, time: np.ndarray, cycles: float) -> np.ndarray:
    """Smooth noise in [-1, 1] of about `cycles` per frame."""
    rate = cycles * rng.uniform(0.5, 1.5, (NUM_WAVES, 1))
    phase = rng.uniform(0.0, 1.0, (NUM_WAVES, 1))
    return np.sin(2 * np.pi * (rate * time + phase)).mean(axis=0)


def _poses(centre: np.ndarray, yaw, pitch, roll) -> np.ndarray:
    """Poses of level cameras turned by yaw about z, then pitched up and rolled (radians)."""
    level = np.cos(pitch)
    forward = np.stack([level * np.cos(yaw), level * np.sin(yaw), np.sin(pitch)], axis=-1)
    right = np.stack([np.sin(yaw), -np.cos(yaw), np.zeros_like(yaw)], axis=-1)
    down = np.cross(forward, right)
    c, s = np.cos(roll)[:, None], np.sin(roll)[:, None]
    out = np.zeros((len(centre), 4, 4))
    out[:, :3] = np.stack([c * right + s * down, c * down - s * right, forward, centre], axis=-1)
    out[:, 3, 3] = 1.0
    return out
