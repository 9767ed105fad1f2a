"""Images, coverage and depth of mesh scenes under pinhole cameras, in NumPy.

A view is sampled on a grid of half pixels that holds the pixel centres: these give depth, and
colour where nothing changes. Pixels with an outline or contrast take the mean over their square by
the trapezoid rule (weights 1, 2, 1 along each side).
"""

import dataclasses

import numpy as np

from tttlrm_jax.config import SyntheticConfig
from tttlrm_jax.data.lighting import Lights, ShadowMap, shade
from tttlrm_jax.data.materials import Material
from tttlrm_jax.data.mesh_raster import NEAR, rasterize
from tttlrm_jax.data.meshes import Mesh, clip
from tttlrm_jax.data.synthetic import contrasting_pixels
from tttlrm_jax.errors import ConfigError

CHUNK = 8192  # samples shaded at a time: their arrays fit a core's cache
WEIGHTS = np.array([0.25, 0.5, 0.25], np.float32)


@dataclasses.dataclass(frozen=True)
class MeshScene:
    """A mesh whose triangles have materials; k parts. Back faces are not seen."""

    mesh: Mesh
    materials: tuple[Material, ...]  # by part
    part_from_world: np.ndarray  # float32 [k, 3, 3]: texture frame, of unit scale
    centres: np.ndarray  # float32 [k, 3]
    lights: Lights
    shadows: ShadowMap | None


@dataclasses.dataclass(frozen=True)
class _Projected:
    """Triangles before one camera, clipped and culled."""

    corners: np.ndarray  # float64 [triangle, 3, 3]: x, y in pixels and 1 / z
    surface: np.ndarray  # float32 [triangle, 3, 3 or 5], world normals and texture coordinates
    part: np.ndarray  # int32 [triangle]


def rendered_scene(
    scene: MeshScene, world_from_camera: np.ndarray, intrinsics: np.ndarray, config: SyntheticConfig
) -> dict[str, np.ndarray]:
    """All views of a scene; arrays as `synthetic.render_object` returns them."""
    image, depth = render_views(
        scene, world_from_camera, intrinsics, config.height, config.width, config.supersampling
    )
    return {
        "image": image, "depth": depth, "world_from_camera": world_from_camera,
        "intrinsics": intrinsics,
    }  # fmt: skip


def render_views(
    scene: MeshScene,
    world_from_camera: np.ndarray,
    intrinsics: np.ndarray,
    height: int,
    width: int,
    supersampling: int = 2,
) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [view, height, width, 4] with straight alpha, and z depth float32 [view, ..].

    Poses are [view, 4, 4], intrinsics [view, 4] in pixels. Depth belongs to pixel-centre rays, 0
    where they miss. `supersampling` is 1, for one sample a pixel, or 2.
    """
    if supersampling not in (1, 2):
        raise ConfigError.of("supersampling", supersampling, "is not 1 or 2", "use 2")
    images = np.zeros((len(intrinsics), height, width, 4), np.uint8)
    depths = np.zeros((len(intrinsics), height, width), np.float32)
    for view, (pose, lens) in enumerate(zip(world_from_camera, intrinsics, strict=True)):
        projected = _project(scene.mesh, pose, lens, height, width)
        if not len(projected.part):
            continue
        left, top, right, bottom = _window(projected, height, width)
        part = np.s_[view, top:bottom, left:right]
        projected.corners[..., :2] -= [left, top]
        shifted = lens - [0.0, 0.0, left, top]
        images[part], depths[part] = _render(
            scene, projected, pose, shifted, bottom - top, right - left, supersampling
        )
    return images, depths


def _window(projected: _Projected, height: int, width: int) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the part of the image that triangles touch."""
    low = np.floor(projected.corners[..., :2].min(axis=(0, 1)))
    high = np.ceil(projected.corners[..., :2].max(axis=(0, 1)))
    left, top = np.clip(low, 0, [width - 1, height - 1]).astype(int)
    right, bottom = np.clip(high, [left + 1, top + 1], [width, height]).astype(int)
    return int(left), int(top), int(right), int(bottom)


def _render(scene, projected, pose, lens, height, width, supersampling):
    """Image uint8 [height, width, 4] and depth float32 [height, width] of projected triangles."""
    if supersampling == 1:
        hits = rasterize(projected.corners, height, width)
        centre = (slice(None), slice(None))
        position = 0.5, 1.0
    else:  # sample c of the grid lies at pixel position c / 2
        grid = projected.corners * [2.0, 2.0, 1.0] + [0.5, 0.5, 0.0]
        hits = rasterize(grid, 2 * height + 1, 2 * width + 1)
        centre = (slice(1, None, 2), slice(1, None, 2))
        position = 0.0, 0.5
    owner = hits.triangle[centre]
    covered = owner >= 0
    depth = np.where(covered, 1.0 / np.where(covered, hits.nearness[centre], 1.0), 0.0)
    samples = np.zeros(hits.triangle.shape, bool)
    samples[centre] = covered
    colour = np.zeros((*hits.triangle.shape, 3), np.float32)
    _shade_samples(scene, projected, hits, samples, position, pose, lens, colour)
    image = np.concatenate([colour[centre], covered[..., None].astype(np.float32)], axis=-1)
    if supersampling == 2:
        part = np.where(covered, projected.part[owner], -1)
        refine = contrasting_pixels(image[..., :3], part) | _partial(hits.triangle)
        more = _around(refine) & (hits.triangle >= 0) & ~samples
        _shade_samples(scene, projected, hits, more, position, pose, lens, colour)
        _average(colour, hits.triangle >= 0, refine, image)
    return np.rint(255.0 * np.clip(image, 0.0, 1.0)).astype(np.uint8), depth.astype(np.float32)


def _project(mesh: Mesh, pose, lens, height, width) -> _Projected:
    surface = mesh.normals
    if mesh.coordinates is not None:
        surface = np.concatenate([surface, mesh.coordinates], axis=1)
    seen = (mesh.vertices - pose[:3, 3]) @ pose[:3, :3]
    triangles, part = mesh.triangles, mesh.part
    behind = (seen[:, 2] < NEAR)[triangles]
    if not behind.any():
        screen = _on_screen(seen, lens)
        kept = _in_view(screen[triangles], height, width)
        return _Projected(screen[triangles[kept]], surface[triangles[kept]], part[kept])
    front = ~behind.any(axis=1)
    crossing = np.flatnonzero(~front & ~behind.all(axis=1))
    both = np.concatenate([seen, surface], axis=1)
    clipped, source = clip(both[triangles[crossing]], seen[triangles[crossing], 2] - NEAR)
    corners = np.concatenate([both[triangles[front]], clipped])
    part = np.concatenate([part[front], part[crossing[source]]])
    screen = _on_screen(corners[..., :3].reshape(-1, 3), lens).reshape(-1, 3, 3)
    kept = _in_view(screen, height, width)
    return _Projected(screen[kept], corners[kept, :, 3:].astype(np.float32), part[kept])


def _on_screen(seen: np.ndarray, lens: np.ndarray) -> np.ndarray:
    nearness = 1.0 / np.where(seen[:, 2] > 0, seen[:, 2], np.inf)
    return np.concatenate(
        [lens[:2] * seen[:, :2] * nearness[:, None] + lens[2:], nearness[:, None]], 1
    )


def _in_view(screen: np.ndarray, height: int, width: int) -> np.ndarray:
    """Numbers of the triangles [triangle, 3, 3] that face the camera and touch the image."""
    x, y = screen[..., 0].T, screen[..., 1].T
    area = (x[1] - x[0]) * (y[2] - y[0]) - (x[2] - x[0]) * (y[1] - y[0])
    seen = area < 0
    for place, size in ((x, width), (y, height)):
        seen &= np.maximum(np.maximum(place[0], place[1]), place[2]) > 0
        seen &= np.minimum(np.minimum(place[0], place[1]), place[2]) < size
    return np.flatnonzero(seen)


def _shade_samples(scene, projected, hits, chosen, position, pose, lens, colour) -> None:
    """Fills `colour` [row, column, 3] at the chosen samples; `position` maps numbers to pixels."""
    sample = np.flatnonzero(chosen)
    part = projected.part[hits.triangle.ravel()[sample]].astype(np.int16)
    sample = sample[np.argsort(part, kind="stable")]  # a radix sort
    flat, stops = colour.reshape(-1, 3), np.cumsum(np.bincount(part, minlength=len(scene.centres)))
    for number in np.unique(part):
        start = stops[number - 1] if number else 0
        for first in range(start, stops[number], CHUNK):
            some = sample[first : min(first + CHUNK, stops[number])]
            flat[some] = _shade(scene, number, projected, hits, some, position, pose, lens)


def _shade(scene, number, projected, hits, sample, position, pose, lens) -> np.ndarray:
    """Colours [sample, 3] of samples of one part."""
    row, column = np.divmod(sample, hits.triangle.shape[1])
    offset, step = map(np.float32, position)
    x, y = offset + step * column.astype(np.float32), offset + step * row.astype(np.float32)
    fx, fy, cx, cy = lens.astype(np.float32)
    ray = np.stack([(x - cx) / fx, (y - cy) / fy, np.ones_like(x)])
    ray = pose[:3, :3].astype(np.float32) @ ray
    point = ray / hits.nearness.ravel()[sample] + pose[:3, 3, None].astype(np.float32)
    surface = _interpolated(projected, hits.triangle.ravel()[sample], x, y)
    normal = surface[:3] / np.maximum(np.sqrt((surface[:3] ** 2).sum(axis=0)), np.float32(1e-12))
    material, turn = scene.materials[number], scene.part_from_world[number]
    albedo = material.albedo(
        turn @ (point - scene.centres[number][:, None]),
        turn @ normal,
        surface[3:] if len(surface) == 5 else None,
    )
    to_camera = -ray / np.sqrt((ray * ray).sum(axis=0))
    return shade(
        scene.lights, scene.shadows, point, normal, to_camera, albedo, material.gloss,
        material.shininess,
    )  # fmt: skip


def _interpolated(
    projected: _Projected, owner: np.ndarray, x: np.ndarray, y: np.ndarray
) -> np.ndarray:
    """Surface values [3 or 5, sample] at pixels, linear in the scene; normals not yet of length 1.

    A corner weighs as the triangle opposite to it on the screen, times the corner's nearness.
    """
    corners = projected.corners[owner].astype(np.float32).transpose(1, 2, 0)
    surface = projected.surface[owner].transpose(1, 2, 0)
    total, weights = np.zeros(surface.shape[1:], np.float32), np.float32(1e-30)
    for number in range(3):
        one, two = corners[(number + 1) % 3], corners[(number + 2) % 3]
        area = (two[0] - one[0]) * (y - one[1]) - (two[1] - one[1]) * (x - one[0])
        weight = -np.minimum(area, np.float32(0.0)) * corners[number, 2]  # seen ones are negative
        total += weight * surface[number]
        weights = weights + weight
    return total / weights


def _windows(grid: np.ndarray):
    """The nine samples of every pixel, from a grid of half pixels."""
    height, width = (grid.shape[0] - 1) // 2, (grid.shape[1] - 1) // 2
    for i, j in np.ndindex(3, 3):
        yield grid[i : i + 2 * height : 2, j : j + 2 * width : 2]


def _partial(triangle: np.ndarray) -> np.ndarray:
    """Pixels whose nine samples are neither all covered nor all free."""
    count = np.zeros(((triangle.shape[0] - 1) // 2, (triangle.shape[1] - 1) // 2), np.int8)
    for window in _windows(triangle):
        count += window >= 0
    return (count > 0) & (count < 9)


def _around(refine: np.ndarray) -> np.ndarray:
    """The samples of the marked pixels, on the grid of half pixels."""
    height, width = refine.shape
    out = np.zeros((2 * height + 1, 2 * width + 1), bool)
    for window in _windows(out):
        window |= refine
    return out


def _average(colour, covered, refine, image) -> None:
    """Writes means over the squares of the marked pixels into image [height, width, 4]."""
    row, column = np.nonzero(refine)
    total, share = np.zeros((len(row), 3), np.float32), np.zeros(len(row), np.float32)
    flat, seen, wide = colour.reshape(-1, 3), covered.ravel(), colour.shape[1]
    first = 2 * row * wide + 2 * column
    for i, j in np.ndindex(3, 3):
        index = first + (i * wide + j)
        weight = WEIGHTS[i] * WEIGHTS[j] * seen[index]
        total += weight[:, None] * np.minimum(flat[index], np.float32(1.0))
        share += weight
    image[row, column, :3] = total / np.maximum(share, 1e-6)[:, None]
    image[row, column, 3] = share
