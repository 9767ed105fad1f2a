"""Materials of mesh scenes: a solid texture or a picture around the surface, and its gloss.

Points and normals are float32 [3, point] in the frame of the part that has the material, in units
in which an object measures about 2.
"""

import dataclasses

import numpy as np

from tttlrm_jax.data.pictures import random_picture
from tttlrm_jax.data.textures import Texture, evaluate, random_texture

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
    mapped: bool = False  # the picture lies where the mesh's texture coordinates say

    def albedo(
        self, point: np.ndarray, normal: np.ndarray, coordinates: np.ndarray | None = None
    ) -> np.ndarray:
        """Colours [point, 3]; `coordinates` float32 [2, point] are those of the mesh."""
        if self.texture is not None:
            return evaluate(self.texture, point)
        assert self.picture is not None, "a material has a texture or a picture"
        if self.mapped and coordinates is not None:
            return look_up(self.picture, coordinates[0], coordinates[1])
        return look_up(self.picture, *around_box(point, normal, self.tile))


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
    axis = np.abs(normal).argmax(axis=0)
    sign = np.where(np.take_along_axis(normal, axis[None], axis=0)[0] < 0, -1.0, 1.0)
    x, y, z = point / np.float32(tile)
    right = np.where(axis == 0, sign * y, np.where(axis == 1, -sign * x, x))
    up = np.where(axis == 2, sign * y, z)
    return right, up


def look_up(picture: np.ndarray, right: np.ndarray, up: np.ndarray) -> np.ndarray:
    """Bilinear colours [point, 3] of a tiling picture [row, column, 3] at coordinates in tiles."""
    height, width = picture.shape[:2]
    x, y = width * right - 0.5, -height * up - 0.5
    left, top = np.floor(x), np.floor(y)
    share_x, share_y = (x - left).astype(np.float32)[:, None], (y - top).astype(np.float32)[:, None]
    column, row = left.astype(np.int64) % width, top.astype(np.int64) % height
    next_column, next_row = (column + 1) % width, (row + 1) % height
    flat = picture.reshape(-1, 3)
    upper = flat[row * width + column]
    upper = upper + share_x * (flat[row * width + next_column] - upper)
    lower = flat[next_row * width + column]
    lower = lower + share_x * (flat[next_row * width + next_column] - lower)
    return upper + share_y * (lower - upper)
