"""Materials of triangles: a solid texture or a picture around the surface, and its gloss.

Points and normals are float32 [3, point] in the frame of the part that has the material, in units
in which an object measures about 2.
"""

import dataclasses
import functools

import numpy as np

from tttlrm_jax.procedural.appearance.pictures import random_picture
from tttlrm_jax.procedural.appearance.textures import Texture, planes, random_texture

PICTURE_SHARE = 0.5  # of materials that show a picture
PLAIN_SHARE = 0.3  # of plain textures that stay plain; the others are drawn again
GLOSSY_SHARE = 0.35


@dataclasses.dataclass(frozen=True)
class Material:
    """What a surface looks like under white light; exactly one of texture and picture is given."""

    texture: Texture | None
    picture: np.ndarray | None  # float32 [row, column, 3] in [0, 1], tiling
    tile: float = 1.0  # side of the picture on the surface, scene units
    gloss: float = 0.0  # strength of highlights
    shininess: float = 20.0  # exponent of Blinn-Phong
    mapped: bool = False  # the picture lies where the surface's texture coordinates say

    @functools.cached_property
    def picture_planes(self) -> np.ndarray:
        """The picture as [3, row, column]."""
        assert self.picture is not None, "a material has a texture or a picture"
        return np.ascontiguousarray(self.picture.transpose(2, 0, 1))

    def albedo(
        self, point: np.ndarray, normal: np.ndarray, coordinates: np.ndarray | None = None
    ) -> np.ndarray:
        """Colours [3, point]; `coordinates` float32 [2, point] are those of the surface."""
        if self.texture is not None:
            return planes(self.texture, point)
        if self.mapped and coordinates is not None:
            return look_up(self.picture_planes, coordinates[0], coordinates[1])
        return look_up(self.picture_planes, *around_box(point, normal, self.tile))


def random_material(rng: np.random.Generator, patterned: bool = False) -> Material:
    """Draws a material; `patterned` ones are never of one colour."""
    gloss = rng.uniform(0.1, 0.5) if rng.random() < GLOSSY_SHARE else 0.0
    shininess = float(np.exp(rng.uniform(np.log(8.0), np.log(80.0))))
    if rng.random() < PICTURE_SHARE:
        picture = random_picture(rng).astype(np.float32) / np.float32(255)
        return Material(None, picture, float(rng.uniform(0.5, 1.3)), gloss, shininess)
    while True:
        texture = random_texture(rng)
        if texture.kind != "plain" or (not patterned and rng.random() < PLAIN_SHARE):
            return Material(texture, None, 1.0, gloss, shininess)


def around_box(point: np.ndarray, normal: np.ndarray, tile: float) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates to the right and up, in tiles, on the side of a box that the normal points to.

    Pictures stand upright (z is up on the four sides) and are not mirrored.
    """
    size = np.abs(normal)
    along_x = (size[0] >= size[1]) & (size[0] >= size[2])
    along_y = ~along_x & (size[1] >= size[2])
    x, y, z = point / np.float32(tile)
    down = np.where(along_x, normal[0], np.where(along_y, normal[1], normal[2])) < 0
    right = np.where(along_x, y, x)
    up = np.where(along_x | along_y, z, y)
    np.negative(right, out=right, where=(along_x & down) | (along_y & ~down))
    np.negative(up, out=up, where=down & ~(along_x | along_y))
    return right, up


def look_up(picture: np.ndarray, right: np.ndarray, up: np.ndarray) -> np.ndarray:
    """Bilinear colours [3, point] of a tiling picture [3, row, column] at coordinates in tiles."""
    _, height, width = picture.shape
    x, y = width * right.astype(np.float64) - 0.5, -height * up.astype(np.float64) - 0.5
    left, top = np.floor(x), np.floor(y)
    share_x, share_y = (x - left).astype(np.float32), (y - top).astype(np.float32)
    column, row = _wrapped(left.astype(np.int64), width), _wrapped(top.astype(np.int64), height)
    next_column, next_row = _wrapped(column + 1, width), _wrapped(row + 1, height)
    row, next_row = row * width, next_row * width
    corners = row + column, row + next_column, next_row + column, next_row + next_column
    out = np.empty((3, len(right)), np.float32)
    for plane, colour in zip(picture.reshape(3, -1), out, strict=True):
        a, b, c, d = (plane.take(corner, mode="clip") for corner in corners)
        upper = a + share_x * (b - a)
        lower = c + share_x * (d - c)
        np.add(upper, share_y * (lower - upper), out=colour)
    return out


def _wrapped(number: np.ndarray, size: int) -> np.ndarray:
    """`number % size`, faster where the size is a power of 2."""
    return number & (size - 1) if size & (size - 1) == 0 else number % size
