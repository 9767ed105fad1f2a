"""Materials of glTF 2.0 as ours: base colour, its texture, opacity, sides and gloss.

Factors and vertex colours of glTF are linear light, textures and our pictures are sRGB. Metal,
normal maps, occlusion and emission are not shown.
"""

import dataclasses
from typing import Any

import numpy as np

from tttlrm_jax.procedural.appearance.materials import Material
from tttlrm_jax.procedural.surfaces.gltf_buffers import Buffers
from tttlrm_jax.procedural.surfaces.models import (
    SEE_THROUGH,
    SHINE_LIMIT,
    coloured,
    decoded_texture,
    pictured,
)

MIRRORED_REPEAT = 33648  # of a sampler's wrapS and wrapT; CLAMP_TO_EDGE is taken as repeating
TRANSFORM, WEBP = "KHR_texture_transform", "EXT_texture_webp"
DEFAULT_CUTOFF = 0.5  # of alpha, in MASK
SHININESS = (2.0, 200.0)  # limits of Blinn-Phong's exponent


@dataclasses.dataclass(frozen=True)
class Look:
    """How a primitive looks; `transform` [2, 3] acts on its texture coordinates, v down."""

    material: Material
    two_sided: bool = False
    coordinates: int = 0  # number of the TEXCOORD attribute
    transform: np.ndarray = dataclasses.field(default_factory=lambda: np.eye(2, 3))
    alpha: np.ndarray | None = None  # float32 [row, column] of the texture, where some is cut away
    cutoff: float = 0.0  # what is less opaque is cut away
    opacity: float = 1.0  # of all of it
    notes: tuple[str, ...] = ()


def read_look(document: Any, number: int | None, buffers: Buffers) -> Look:
    """The material `number` of a document; None is glTF's default, white and rough."""
    if number is None:
        return Look(coloured((1.0, 1.0, 1.0), 0.0, SHININESS[0]))
    entry = document.materials[number]
    surface = entry.pbrMetallicRoughness
    factor = (
        np.ones(4) if surface is None else np.array(surface.baseColorFactor or [1.0] * 4, float)
    )
    if factor.shape != (4,) or not np.isfinite(factor).all():
        raise ValueError(f"baseColorFactor of material {number} is not four numbers")
    factor = np.clip(factor, 0.0, 1.0)
    gloss, shininess = _gloss(surface)
    mode = entry.alphaMode or "OPAQUE"
    cutoff = {"OPAQUE": 0.0, "BLEND": SEE_THROUGH}.get(mode)
    if cutoff is None:
        cutoff = DEFAULT_CUTOFF if entry.alphaCutoff is None else float(entry.alphaCutoff)
    opacity = 1.0 if mode == "OPAQUE" else float(factor[3])
    look = Look(
        coloured(tuple(to_srgb(factor[:3])), gloss, shininess), bool(entry.doubleSided),
        cutoff=cutoff, opacity=opacity, notes=_notes(entry),
    )  # fmt: skip
    texture = None if surface is None else surface.baseColorTexture
    return look if texture is None else _textured(look, document, texture, factor, buffers)


def _textured(
    look: Look, document: Any, texture: Any, factor: np.ndarray, buffers: Buffers
) -> Look:
    pixels, missing = _picture(document, texture.index, buffers)
    if pixels is None:
        return dataclasses.replace(look, notes=(*look.notes, missing))
    picture, alpha = pixels[..., :3], pixels[..., 3]
    if (factor[:3] != 1).any():
        picture = to_srgb(to_linear(picture) * factor[:3])
    material = pictured(picture.astype(np.float32), look.material.gloss, look.material.shininess)
    cut = look.cutoff > 0 and float(alpha.min()) * look.opacity < look.cutoff
    extension = (texture.extensions or {}).get(TRANSFORM, {})
    coordinates = extension.get("texCoord", texture.texCoord)
    return dataclasses.replace(
        look, material=material, alpha=alpha if cut else None, coordinates=int(coordinates or 0),
        transform=texture_transform(extension) / _tiles(document, texture.index)[:, None],
    )  # fmt: skip


def texture_transform(extension: dict) -> np.ndarray:
    """[2, 3] on (u, v, 1) of KHR_texture_transform: scaled, then turned, then moved."""
    angle = float(extension.get("rotation", 0.0))
    (wide, high), offset = extension.get("scale", (1.0, 1.0)), extension.get("offset", (0.0, 0.0))
    c, s = np.cos(angle), np.sin(angle)
    return np.array([
        [c * wide, s * high, float(offset[0])], [-s * wide, c * high, float(offset[1])],
    ])  # fmt: skip


def _picture(document: Any, number: int, buffers: Buffers) -> tuple[np.ndarray | None, str]:
    """RGBA float32 [row, column, 4] of a texture, or None and why."""
    texture = document.textures[number]
    source = (texture.extensions or {}).get(WEBP, {}).get("source", texture.source)
    if source is None:
        return None, "a texture of an unknown format"
    image = document.images[source]
    content = buffers.file(image.uri) if image.uri else buffers.view(image.bufferView)
    pixels = decoded_texture(content, "RGBA")
    if pixels is None:
        return None, "a texture that cannot be decoded"
    sampler = None if texture.sampler is None else document.samplers[texture.sampler]
    if sampler is not None and sampler.wrapS == MIRRORED_REPEAT:
        pixels = np.concatenate([pixels, pixels[:, ::-1]], axis=1)
    if sampler is not None and sampler.wrapT == MIRRORED_REPEAT:
        pixels = np.concatenate([pixels, pixels[::-1]], axis=0)
    return pixels, ""


def _tiles(document: Any, number: int) -> np.ndarray:
    """[2]: 2 along axes in which a tile of `_picture` is two of the texture's, else 1."""
    texture = document.textures[number]
    if texture.sampler is None:
        return np.ones(2)
    sampler = document.samplers[texture.sampler]
    return np.array([1.0 + (wrap == MIRRORED_REPEAT) for wrap in (sampler.wrapS, sampler.wrapT)])


def _gloss(surface: Any) -> tuple[float, float]:
    """Strength and exponent of highlights: with alpha = roughness^2, 2 / alpha^2 - 2."""
    rough = 1.0 if surface is None or surface.roughnessFactor is None else surface.roughnessFactor
    rough = float(np.clip(rough, 0.05, 1.0))
    return SHINE_LIMIT * (1.0 - rough), float(np.clip(2.0 / rough**4 - 2.0, *SHININESS))


def _notes(entry: Any) -> tuple[str, ...]:
    shines = entry.emissiveTexture is not None or any(entry.emissiveFactor or ())
    return ("emission of light",) if shines else ()


def to_srgb(linear: np.ndarray) -> np.ndarray:
    """Displayed colour of linear light, both in [0, 1] (IEC 61966-2-1)."""
    linear = np.clip(linear, 0.0, 1.0)
    curved = 1.055 * np.maximum(linear, 0.0031308) ** (1 / 2.4) - 0.055
    return np.where(linear <= 0.0031308, 12.92 * linear, curved)


def to_linear(colour: np.ndarray) -> np.ndarray:
    """Linear light of displayed colour, both in [0, 1]."""
    return np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)
