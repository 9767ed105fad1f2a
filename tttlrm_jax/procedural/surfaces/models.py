"""Models of other programs as triangles with materials, whatever file they come from."""

import dataclasses
import io
from collections.abc import Callable

import numpy as np
from PIL import Image

from tttlrm_jax.captures.pictures.images import DECODING_ERRORS
from tttlrm_jax.procedural.appearance.materials import Material
from tttlrm_jax.procedural.surfaces.triangles import TriangleMesh

Fetch = Callable[[str], bytes]  # raises KeyError for a name that does not exist
MAX_TEXTURE = 512  # pixels of a side; larger pictures are reduced
SEE_THROUGH = 0.4  # materials less opaque than this are left out: nothing here is transparent
SHINE_LIMIT = 0.5  # of highlights; old models ask for more than looks right under several lamps
UPRIGHT = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])  # z up from y up


@dataclasses.dataclass(frozen=True)
class Model:
    """Triangles with texture coordinates, and the materials of its parts; world y is up.

    `notes` name what of the file is not shown, a few words each.
    """

    surface: TriangleMesh
    materials: tuple[Material, ...]
    notes: tuple[str, ...] = ()
    copyright: str = ""  # what the file says of its makers

    def upright(
        self, size: np.ndarray | None = None, rotation: np.ndarray | None = None
    ) -> "Model":
        """The model with z up, centred, in a ball of radius 1, turned by `rotation` [3, 3] first.

        It keeps its proportions or, with `size` [3], gets those of a box of that width, depth and
        height.
        """
        turn = UPRIGHT if rotation is None else UPRIGHT @ rotation
        vertices = self.surface.vertices.astype(np.float64) @ turn.T
        used = vertices[self.surface.triangles.ravel()]
        low, high = used.min(axis=0), used.max(axis=0)
        stretch = np.ones(3)
        if size is not None:
            stretch = size / np.maximum(high - low, 1e-9)
            stretch = np.where(high - low > 1e-6, stretch, 1.0)
        stretch = stretch / (0.5 * np.linalg.norm(stretch * (high - low)))
        turned = self.surface.normals @ turn.T / stretch
        turned /= np.maximum(np.linalg.norm(turned, axis=1, keepdims=True), 1e-12)
        surface = dataclasses.replace(
            self.surface,
            vertices=((vertices - 0.5 * (low + high)) * stretch).astype(np.float32),
            normals=turned.astype(np.float32),
        )
        return dataclasses.replace(self, surface=surface)


def coloured(colour: tuple[float, ...], gloss: float, shininess: float) -> Material:
    """A material of one colour, RGB in [0, 1]."""
    return pictured(np.array(colour, np.float32).reshape(1, 1, 3), gloss, shininess)


def pictured(picture: np.ndarray, gloss: float, shininess: float) -> Material:
    """A material that shows float32 [row, column, 3] where texture coordinates say."""
    return Material(None, picture, 1.0, gloss, shininess, mapped=True)


def decoded_texture(content: bytes, mode: str = "RGB") -> np.ndarray | None:
    """Float32 [row, column, channel] in [0, 1] of a texture file, at most `MAX_TEXTURE` a side.

    None if it is no picture.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            image = image.convert(mode)
            image.thumbnail((MAX_TEXTURE, MAX_TEXTURE))
            return np.asarray(image).astype(np.float32) / np.float32(255)
    except DECODING_ERRORS:
        return None
