"""Images, coverage and depth of triangles under pinhole cameras, in NumPy.

A view is sampled on a grid of half pixels that holds the pixel centres: these give depth, and
colour where nothing changes. Pixels with an outline or contrast take the mean over their square by
the trapezoid rule (weights 1, 2, 1 along each side).
"""

import dataclasses
import functools
import sys

import numpy as np

from tttlrm_jax.config import SyntheticConfig
from tttlrm_jax.core.errors import ConfigError
from tttlrm_jax.procedural.appearance.lighting import Lights, ShadowMap, shade
from tttlrm_jax.procedural.appearance.materials import Material
from tttlrm_jax.procedural.objects import contrasting_pixels
from tttlrm_jax.procedural.surfaces.triangle_raster import NEAR, rasterize
from tttlrm_jax.procedural.surfaces.triangles import TriangleMesh, clip

CHUNK = 8192  # samples shaded at a time: their arrays fit a core's cache
WEIGHTS = np.array([0.25, 0.5, 0.25], np.float32)


@dataclasses.dataclass(frozen=True)
class TriangleScene:
    """A surface whose triangles have materials; k parts. Back faces are not seen."""

    surface: TriangleMesh
    materials: tuple[Material, ...]  # by part
    part_from_world: np.ndarray  # float32 [k, 3, 3]: texture frame, of unit scale
    centres: np.ndarray  # float32 [k, 3]
    lights: Lights
    shadows: ShadowMap | None
    planar_from: int = sys.maxsize  # parts from this on have one normal to a triangle


@dataclasses.dataclass(frozen=True)
class _Projected:
    """Triangles before one camera, clipped and culled."""

    corners: np.ndarray  # float64 [triangle, 3, 3]: x, y in pixels and 1 / z
    # float32 [triangle, 3, 3, 5 or 8]: world normals, texture coordinates, colours
    attributes: np.ndarray
    part: np.ndarray  # int32 [triangle]

    @functools.cached_property
    def rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Corners and attributes as float32 [corner, number, triangle]: samples take rows fast."""
        corners = self.corners.astype(np.float32).transpose(1, 2, 0)
        attributes = self.attributes.transpose(1, 2, 0)
        return np.ascontiguousarray(corners), np.ascontiguousarray(attributes)


def rendered_scene(
    scene: TriangleScene,
    world_from_camera: np.ndarray,
    intrinsics: np.ndarray,
    config: SyntheticConfig,
) -> dict[str, np.ndarray]:
    """All views of a scene, poses [view, 4, 4] and intrinsics [view, 4] in pixels; arrays as
    `objects.render_object` returns them. `supersampling` is 1, for one sample a pixel, or 2."""
    height, width, supersampling = config.height, config.width, config.supersampling
    if supersampling not in (1, 2):
        raise ConfigError.of("supersampling", supersampling, "is not 1 or 2", "use 2")
    images = np.zeros((len(intrinsics), height, width, 4), np.uint8)
    depths = np.zeros((len(intrinsics), height, width), np.float32)
    for view, (pose, lens) in enumerate(zip(world_from_camera, intrinsics, strict=True)):
        projected = _project(scene.surface, pose, lens, height, width)
        if not len(projected.part):
            continue
        left, top, right, bottom = _window(projected, height, width)
        part = np.s_[view, top:bottom, left:right]
        projected.corners[..., :2] -= [left, top]
        shifted = lens - [0.0, 0.0, left, top]
        images[part], depths[part] = _render(
            scene, projected, pose, shifted, bottom - top, right - left, supersampling
        )
    views = {"image": images, "depth": depths}
    return views | {"world_from_camera": world_from_camera, "intrinsics": intrinsics}


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
    colour = np.zeros((3, *hits.triangle.shape), np.float32)
    _shade_samples(scene, projected, hits, samples, position, pose, lens, colour)
    image = np.concatenate([colour[:, *centre], covered[None].astype(np.float32)])
    if supersampling == 2:
        part = np.where(covered, projected.part[owner], -1)
        refine = contrasting_pixels(np.moveaxis(image[:3], 0, -1), part)
        refine |= _partial(hits.triangle)
        more = _around(refine) & (hits.triangle >= 0) & ~samples
        _shade_samples(scene, projected, hits, more, position, pose, lens, colour)
        _average(colour, hits.triangle >= 0, refine, image)
    image = np.rint(255.0 * np.clip(image, 0.0, 1.0)).astype(np.uint8)
    return image.transpose(1, 2, 0), depth.astype(np.float32)


def _project(surface: TriangleMesh, pose, lens, height, width) -> _Projected:
    attributes = surface.normals
    if surface.coordinates is not None:
        more = [] if surface.colours is None else [surface.colours]
        attributes = np.concatenate([attributes, surface.coordinates, *more], axis=1)
    seen = (surface.vertices - pose[:3, 3]) @ pose[:3, :3]
    triangles, part = surface.triangles, surface.part
    behind = seen[:, 2] < NEAR
    screen = _on_screen(seen, lens)
    if not behind.any():
        kept = _in_view(screen, triangles, height, width)
        return _Projected(screen[triangles[kept]], attributes[triangles[kept]], part[kept])
    number_behind = behind[triangles].sum(axis=1)
    front = np.flatnonzero(number_behind == 0)
    kept = front[_in_view(screen, triangles[front], height, width)]
    crossing = np.flatnonzero((number_behind > 0) & (number_behind < 3))
    both = np.concatenate([seen, attributes], axis=1)
    clipped, source = clip(both[triangles[crossing]], seen[triangles[crossing], 2] - NEAR)
    pieces = _on_screen(clipped[..., :3].reshape(-1, 3), lens)
    shown = _in_view(pieces, np.arange(len(pieces)).reshape(-1, 3), height, width)
    return _Projected(
        np.concatenate([screen[triangles[kept]], pieces.reshape(-1, 3, 3)[shown]]),
        np.concatenate([attributes[triangles[kept]], clipped[shown, :, 3:].astype(np.float32)]),
        np.concatenate([part[kept], part[crossing[source[shown]]]]),
    )


def _on_screen(seen: np.ndarray, lens: np.ndarray) -> np.ndarray:
    nearness = 1.0 / np.where(seen[:, 2] > 0, seen[:, 2], np.inf)
    return np.concatenate(
        [lens[:2] * seen[:, :2] * nearness[:, None] + lens[2:], nearness[:, None]], 1
    )


def _in_view(screen: np.ndarray, triangles: np.ndarray, height: int, width: int) -> np.ndarray:
    """Numbers of the triangles [triangle, 3] of vertices [vertex, 3] that face the camera and touch
    the image."""
    x, y = (np.ascontiguousarray(screen[:, axis]).take(triangles.T) for axis in (0, 1))
    area = (x[1] - x[0]) * (y[2] - y[0]) - (x[2] - x[0]) * (y[1] - y[0])
    seen = area < 0
    for place, size in ((x, width), (y, height)):
        seen &= np.maximum(np.maximum(place[0], place[1]), place[2]) > 0
        seen &= np.minimum(np.minimum(place[0], place[1]), place[2]) < size
    return np.flatnonzero(seen)


def _shade_samples(scene, projected, hits, chosen, position, pose, lens, colour) -> None:
    """Fills `colour` [3, row, column] at the chosen samples; `position` maps numbers to pixels."""
    sample = np.flatnonzero(chosen)
    part = projected.part.take(hits.triangle.take(sample)).astype(np.int16)
    sample = sample[np.argsort(part, kind="stable")]  # a radix sort
    count = np.bincount(part, minlength=len(scene.centres))
    flat, stops = colour.reshape(3, -1), np.cumsum(count)
    for number in np.flatnonzero(count):
        for first in range(stops[number] - count[number], stops[number], CHUNK):
            some = sample[first : min(first + CHUNK, stops[number])]
            shaded = _shade(scene, number, projected, hits, some, position, pose, lens)
            for plane, values in zip(flat, shaded, strict=True):
                plane[some] = values


def _shade(scene, number, projected, hits, sample, position, pose, lens) -> np.ndarray:
    """Colours [3, sample] of samples of one part."""
    row = sample // hits.triangle.shape[1]  # faster than divmod
    column = sample - row * hits.triangle.shape[1]
    offset, step = map(np.float32, position)
    x, y = offset + step * column.astype(np.float32), offset + step * row.astype(np.float32)
    fx, fy, cx, cy = lens.astype(np.float32)
    ray = np.stack([(x - cx) / fx, (y - cy) / fy, np.ones_like(x)])
    ray = pose[:3, :3].astype(np.float32) @ ray
    point = ray / hits.nearness.take(sample, mode="clip") + pose[:3, 3, None].astype(np.float32)
    owner = hits.triangle.take(sample, mode="clip")
    corner_rows, attribute_rows = projected.rows
    if number >= scene.planar_from:
        attributes = attribute_rows[0].take(owner, axis=1, mode="clip")
        normal = attributes[:3]
    else:
        attributes = _interpolated(corner_rows, attribute_rows, owner, x, y)
        length = np.sqrt((attributes[:3] ** 2).sum(axis=0))
        normal = attributes[:3] / np.maximum(length, np.float32(1e-12))
    material, turn = scene.materials[number], scene.part_from_world[number]
    albedo = material.albedo(
        turn @ (point - scene.centres[number][:, None]),
        turn @ normal,
        attributes[3:5] if len(attributes) > 3 else None,
    )
    if len(attributes) > 5:
        albedo = albedo * attributes[5:]
    to_camera = -ray / np.sqrt((ray * ray).sum(axis=0)) if material.gloss > 0 else ray
    return shade(
        scene.lights, scene.shadows, point, normal, to_camera, albedo, material.gloss,
        material.shininess,
    )  # fmt: skip


def _interpolated(corner_rows, attribute_rows, owner, x, y) -> np.ndarray:
    """Surface values [3, 5 or 8, sample] at pixels, linear in the scene; normals not yet unit.

    A corner weighs as the triangle opposite to it on the screen, times the corner's nearness.
    """
    corners = [[row.take(owner, mode="clip") for row in corner] for corner in corner_rows]
    total = np.zeros((attribute_rows.shape[1], len(owner)), np.float32)
    weights: np.ndarray | np.float32 = np.float32(1e-30)
    for number, attributes in enumerate(attribute_rows):
        one, two = corners[(number + 1) % 3], corners[(number + 2) % 3]
        area = (two[0] - one[0]) * (y - one[1]) - (two[1] - one[1]) * (x - one[0])
        weight = -np.minimum(area, np.float32(0.0)) * corners[number][2]  # seen ones are negative
        for value, row in zip(total, attributes, strict=True):
            value += weight * row.take(owner, mode="clip")
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
    """Writes means over the squares of the marked pixels into image [4, height, width]."""
    row, column = np.nonzero(refine)
    total, share = np.zeros((3, len(row)), np.float32), np.zeros(len(row), np.float32)
    flat, seen, wide = np.minimum(colour, np.float32(1.0)), covered.ravel(), colour.shape[2]
    flat = flat.reshape(3, -1)  # 0 where nothing is seen
    first = 2 * row * wide + 2 * column
    for i, j in np.ndindex(3, 3):
        index = first + (i * wide + j)
        weight = WEIGHTS[i] * WEIGHTS[j]
        for value, plane in zip(total, flat, strict=True):
            value += weight * plane.take(index, mode="clip")
        share += weight * seen.take(index, mode="clip")
    image[:3, row, column] = total / np.maximum(share, 1e-6)
    image[3, row, column] = share
