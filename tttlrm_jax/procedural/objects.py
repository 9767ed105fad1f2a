"""Procedural objects: textured primitives, exact cameras, z depth and coverage.

An object is one to nine affine copies of unit primitives with solid textures under one distant
light (Lambert plus ambient), inside the unit ball. Cameras are OpenCV pinholes on spheres around
it; world z is up. One ray per pixel centre gives depth; pixels on outlines or with contrast get
`supersampling`^2 rays more for colour and alpha. Everything follows from the scene seed: the same
seed and configuration give the same bits on one machine and NumPy.
"""

import dataclasses

import numpy as np

from tttlrm_jax.config import SyntheticConfig
from tttlrm_jax.core.geometry.poses import look_at
from tttlrm_jax.procedural.appearance.textures import (
    Texture,
    planes,
    random_rotation,
    random_texture,
)
from tttlrm_jax.procedural.primitives import PRIMITIVES, dot

RENDER_VERSION = 1  # part of the cache key: raise it when the same seed gives other pixels
CONTRAST = 0.08  # difference of neighbouring colours that calls for more rays
FRAMING = 0.85  # the nearest camera has this part of the object's radius inside the image
ZOOM = 1.6  # the farthest camera of a scene is at most this much farther than the nearest


@dataclasses.dataclass(frozen=True, kw_only=True)
class SceneObject:
    """Primitives with poses, textures and the light; k primitives."""

    kinds: tuple[str, ...]
    world_from_local: np.ndarray  # [k, 3, 3] rotation times scales
    scales: np.ndarray  # [k, 3]
    centres: np.ndarray  # [k, 3]
    textures: tuple[Texture, ...]
    light: np.ndarray  # [3] unit vector towards the light
    ambient: float
    radius: float  # of the ball around the origin that holds the object


@dataclasses.dataclass(frozen=True)
class _Lens:
    """One view of one primitive: local ray = origin + t * matrix @ (x, y, 1), t = z depth."""

    origin: np.ndarray  # [3, 1]
    matrix: np.ndarray  # [3, 3]
    bounds: np.ndarray  # x_min, y_min, x_max, y_max where the primitive can appear

    def directions(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        columns = self.matrix[:, :, None]
        return columns[:, 0] * x + columns[:, 1] * y + columns[:, 2]


def scene_seed(config: SyntheticConfig, index: int) -> int:
    """The seed of a scene: even numbers for training, odd ones for evaluation."""
    return 2 * ((config.seed << 32) + index) + (config.split == "eval")


def render_object(seed: int, config: SyntheticConfig) -> dict[str, np.ndarray]:
    """Renders all views of the object with this seed.

    Returns `image` uint8 [view, height, width, 4] RGB with straight alpha, `depth` float32
    [view, height, width] (z in world units along pixel-centre rays, 0 where they miss),
    `world_from_camera` float64 [view, 4, 4], `intrinsics` float64 [view, 4] in pixels.
    """
    rng = np.random.default_rng([RENDER_VERSION, seed])
    model = random_object(rng, config)
    poses, intrinsics = random_cameras(rng, config, model.radius)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        image, depth = _render(model, poses, intrinsics, config)
    views = {"image": image, "depth": depth}
    return views | {"world_from_camera": poses, "intrinsics": intrinsics}


def random_object(rng: np.random.Generator, config: SyntheticConfig) -> SceneObject:
    """Draws primitives that touch one another and fits them into a ball of radius 0.7 to 1."""
    count = int(rng.integers(config.min_primitives, config.max_primitives + 1))
    kinds = [list(PRIMITIVES)[i] for i in rng.integers(len(PRIMITIVES), size=count)]
    scales = rng.uniform(0.35, 1.0, (count, 1)) * rng.uniform(0.3, 1.0, (count, 3))
    reach = np.array([_reach(k, s) for k, s in zip(kinds, scales, strict=True)])
    centres = touching_centres(rng, reach, (0.35, 0.8))
    centres -= centres.mean(axis=0)
    radius = float(rng.uniform(0.7, 1.0))
    shrink = radius / np.max(np.linalg.norm(centres, axis=1) + reach)
    scales, centres = scales * shrink, centres * shrink
    rotations = np.stack([random_rotation(rng) for _ in kinds])
    light = rng.normal(size=3) + np.array([0.0, 0.0, 1.5])  # mostly from above
    return SceneObject(
        kinds=tuple(kinds),
        world_from_local=rotations * scales[:, None, :],
        scales=scales,
        centres=centres,
        textures=tuple(random_texture(rng) for _ in kinds),
        light=light / np.linalg.norm(light),
        ambient=float(rng.uniform(0.45, 0.7)),
        radius=radius,
    )


def touching_centres(
    rng: np.random.Generator, reach: np.ndarray, gaps: tuple[float, float]
) -> np.ndarray:
    """Centres [part, 3] of parts of so much reach [part], each near one of those before it.

    Their distance is the sum of both reaches times a number drawn from the range `gaps`.
    """
    centres = np.zeros((len(reach), 3))
    for i in range(1, len(reach)):
        j = int(rng.integers(i))
        direction = rng.normal(size=3)
        gap = rng.uniform(*gaps) * (reach[i] + reach[j])
        centres[i] = centres[j] + gap * direction / np.linalg.norm(direction)
    return centres


def random_cameras(
    rng: np.random.Generator, config: SyntheticConfig, object_radius: float
) -> tuple[np.ndarray, np.ndarray]:
    """Poses float64 [view, 4, 4] and intrinsics float64 [view, 4]; one field of view per scene."""
    count = config.num_views
    half_fov = 0.5 * np.radians(rng.uniform(config.min_fov, config.max_fov))
    framed = FRAMING * object_radius / np.tan(half_fov)
    nearest = np.clip(framed, config.min_distance, config.max_distance)
    farthest = min(config.max_distance, ZOOM * nearest)
    distance = rng.uniform(nearest, farthest, count)
    low, high = np.sin(np.radians([config.min_elevation, config.max_elevation]))
    elevation = np.arcsin(rng.uniform(low, high, count))
    span = np.radians(config.azimuth_span)
    azimuth = rng.uniform(0.0, 2 * np.pi) + rng.uniform(-0.5 * span, 0.5 * span, count)
    x, y = np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth)
    direction = np.stack([x, y, np.sin(elevation)], axis=-1)
    offset = rng.normal(size=(count, 3))
    reach = config.look_jitter * rng.uniform(0, 1, (count, 1)) ** (1 / 3)
    offset *= reach / np.linalg.norm(offset, axis=-1, keepdims=True)
    poses = look_at(distance[:, None] * direction, offset, np.array([0.0, 0.0, 1.0]))
    focal = 0.5 * min(config.height, config.width) / np.tan(half_fov)
    intrinsics = np.array([focal, focal, 0.5 * config.width, 0.5 * config.height])
    return poses, np.tile(intrinsics, (count, 1))


def _reach(kind: str, scale: np.ndarray) -> float:
    """Radius of a ball around a scaled unit primitive."""
    if kind in ("sphere", "torus"):
        return float(scale.max())
    if kind == "box":
        return float(np.linalg.norm(scale))
    return float(np.hypot(scale[:2].max(), scale[2]))


def _render(model, poses, intrinsics, config) -> tuple[np.ndarray, np.ndarray]:
    num_views, height, width = len(poses), config.height, config.width
    lenses = [_view_lenses(model, pose) for pose in poses]
    pixels = [np.arange(height * width)] * num_views
    offset = np.full((1, 2), 0.5)
    colour, depth, owner = _trace(model, lenses, intrinsics, pixels, offset, width)
    colour = colour.reshape(num_views, height * width, 3)
    owner = owner.reshape(num_views, height, width)
    alpha = (owner.reshape(num_views, -1) >= 0).astype(np.float32)
    if config.supersampling > 1:
        refine = contrasting_pixels(colour.reshape(num_views, height, width, 3), owner)
        pixels = [np.flatnonzero(view) for view in refine.reshape(num_views, -1)]
        _refine(model, lenses, intrinsics, pixels, config.supersampling, width, colour, alpha)
    image = np.concatenate([colour, alpha[..., None]], axis=-1)
    image = np.rint(255.0 * np.clip(image, 0.0, 1.0)).astype(np.uint8)
    depth = np.where(owner.ravel() >= 0, depth, 0.0).astype(np.float32)
    return image.reshape(num_views, height, width, 4), depth.reshape(owner.shape)


def _refine(model, lenses, intrinsics, pixels, factor, width, colour, alpha) -> None:
    """Replaces colour and alpha of the listed pixels by means over factor^2 rays each."""
    steps = (np.arange(factor) + 0.5) / factor
    offsets = np.stack(np.meshgrid(steps, steps, indexing="ij"), axis=-1).reshape(-1, 2)
    samples, _, owner = _trace(model, lenses, intrinsics, pixels, offsets, width)
    hit = (owner >= 0).reshape(-1, factor * factor).astype(np.float32)
    count = hit.sum(axis=1)
    mean = samples.reshape(-1, factor * factor, 3).sum(axis=1) / np.maximum(count, 1.0)[:, None]
    view = np.repeat(np.arange(len(pixels)), [len(p) for p in pixels])
    index = np.concatenate(pixels)
    colour[view, index], alpha[view, index] = mean, count / (factor * factor)


def contrasting_pixels(colour: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """Marks pixels [..., height, width] that differ from a neighbour in owner or colour.

    They call for more samples than one. `colour` has a last axis of three channels in [0, 1].
    """
    out = np.zeros(owner.shape, bool)
    for axis in (owner.ndim - 2, owner.ndim - 1):
        size = owner.shape[axis]
        left = tuple(slice(0, size - 1) if a == axis else slice(None) for a in range(owner.ndim))
        right = tuple(slice(1, size) if a == axis else slice(None) for a in range(owner.ndim))
        differs = owner[left] != owner[right]
        for channel in range(3):
            step = colour[(*left, channel)] - colour[(*right, channel)]
            differs |= np.abs(step) > CONTRAST
        out[left] |= differs
        out[right] |= differs
    return out


def _view_lenses(model: SceneObject, pose: np.ndarray) -> list[_Lens]:
    lenses = []
    for linear, centre in zip(model.world_from_local, model.centres, strict=True):
        inverse = np.linalg.inv(linear)
        origin = (inverse @ (pose[:3, 3] - centre))[:, None].astype(np.float32)
        matrix = (inverse @ pose[:3, :3]).astype(np.float32)
        lenses.append(_Lens(origin, matrix, _screen_bounds(pose, linear, centre)))
    return lenses


def _screen_bounds(pose: np.ndarray, linear: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Box of x/z and y/z around the corners of the primitive's cube; endless if one is behind."""
    corners = np.stack(np.meshgrid(*[[-1.0, 1.0]] * 3), axis=-1).reshape(8, 3)
    local = (corners @ linear.T + centre - pose[:3, 3]) @ pose[:3, :3]
    if local[:, 2].min() < 0.05:
        return np.array([-np.inf, -np.inf, np.inf, np.inf])
    screen = local[:, :2] / local[:, 2:]
    return np.concatenate([screen.min(axis=0) - 1e-4, screen.max(axis=0) + 1e-4])


def _trace(model, lenses, intrinsics, pixels, offsets, width):
    """Colours [ray, 3], z depths [ray] and primitive numbers [ray] (-1 none).

    Rays run view, pixel, offset; offsets [offset, 2] are (row, column) within a pixel.
    """
    counts = [len(p) * len(offsets) for p in pixels]
    starts = np.concatenate([[0], np.cumsum(counts)])
    depth = np.full(starts[-1], np.inf, np.float32)
    owner = np.full(starts[-1], -1, np.int8)
    local: list[list[np.ndarray]] = [[] for _ in model.kinds]
    rays: list[list[np.ndarray]] = [[] for _ in model.kinds]
    for view, (fx, fy, cx, cy) in enumerate(intrinsics):
        row, column = np.divmod(pixels[view], width)
        x = (((column[:, None] + offsets[:, 1]).ravel() - cx) / fx).astype(np.float32)
        y = (((row[:, None] + offsets[:, 0]).ravel() - cy) / fy).astype(np.float32)
        part = slice(starts[view], starts[view + 1])
        _cast(model, lenses[view], x, y, depth[part], owner[part])
        for k, lens in enumerate(lenses[view]):
            index = np.flatnonzero(owner[part] == k)
            step = depth[part][index] * lens.directions(x[index], y[index])
            local[k].append(lens.origin + step)
            rays[k].append(index + starts[view])
    colour = np.zeros((starts[-1], 3), np.float32)
    for k in range(len(model.kinds)):
        colour[np.concatenate(rays[k])] = _shade(model, k, np.concatenate(local[k], axis=1))
    return colour, depth, owner


def _cast(model, lenses, x, y, depth, owner) -> None:
    """Fills depth and owner with the nearest hit over all primitives, in place."""
    for k, lens in enumerate(lenses):
        x_min, y_min, x_max, y_max = lens.bounds
        inside = np.flatnonzero((x >= x_min) & (x <= x_max) & (y >= y_min) & (y <= y_max))
        if not inside.size:
            continue
        hit = PRIMITIVES[model.kinds[k]].intersect
        t = hit(lens.origin, lens.directions(x[inside], y[inside]))
        closer = t < depth[inside]
        depth[inside[closer]] = t[closer]
        owner[inside[closer]] = k


def _shade(model: SceneObject, k: int, local: np.ndarray) -> np.ndarray:
    """Lambert plus ambient colour [point, 3] of surface points [3, point] of primitive k."""
    normal = PRIMITIVES[model.kinds[k]].normal(local)
    world = np.linalg.inv(model.world_from_local[k]).T.astype(np.float32)
    normal = [dot(row, normal) for row in world]
    length = np.maximum(np.sqrt(dot(normal, normal)), np.float32(1e-12))
    cosine = dot(model.light.astype(np.float32), normal) / length
    shade = np.float32(model.ambient) + np.float32(1 - model.ambient) * np.maximum(cosine, 0.0)
    point = local * model.scales[k].astype(np.float32)[:, None]
    return planes(model.textures[k], point).T * shade[:, None]
