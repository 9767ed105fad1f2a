"""Solid procedural textures: colour as a function of a point in space.

Points are [3, point] in units in which an object measures about 2, so a texture frequency is in
cycles per unit whatever the primitive's size. Colours are RGB in [0, 1].
"""

import dataclasses
from collections.abc import Callable

import numpy as np

PALETTE_SIZE = 5
NUM_WAVES = 5
NUM_CELLS = 20
EDGE = 6.0  # steepness of the blend between two colours


@dataclasses.dataclass(frozen=True, kw_only=True)
class Texture:
    """All random numbers of one texture; `planes` is a pure function of it."""

    kind: str
    palette: np.ndarray  # [PALETTE_SIZE, 3]
    frame: np.ndarray  # [3, 3] rotation of the pattern
    frequency: float  # cycles per unit
    phase: np.ndarray  # [3]
    waves: np.ndarray  # [NUM_WAVES, 4] direction and phase
    cells: np.ndarray  # [NUM_CELLS, 3] feature points


def random_texture(rng: np.random.Generator) -> Texture:
    """Draws a texture; the kinds of `TEXTURES` are equally likely."""
    kind = list(TEXTURES)[rng.integers(len(TEXTURES))]
    hue = rng.uniform() + rng.uniform(-0.5, 0.5, PALETTE_SIZE) * rng.choice([0.15, 1.0])
    saturation = rng.uniform(0.1, 1.0, PALETTE_SIZE)
    bright = np.arange(PALETTE_SIZE) % 2 == rng.integers(2)  # neighbours in the palette contrast
    light, dark = rng.uniform(0.75, 1.0, PALETTE_SIZE), rng.uniform(0.2, 0.7, PALETTE_SIZE)
    value = np.where(bright, light, dark)
    return Texture(
        kind=kind,
        palette=hsv_to_rgb(np.mod(hue, 1.0), saturation, value).astype(np.float32),
        frame=random_rotation(rng).astype(np.float32),
        frequency=float(rng.uniform(2.0, 6.0)),
        phase=rng.uniform(0.0, 1.0, 3).astype(np.float32),
        waves=rng.normal(size=(NUM_WAVES, 4)).astype(np.float32),
        cells=rng.uniform(-0.9, 0.9, (NUM_CELLS, 3)).astype(np.float32),
    )


def planes(texture: Texture, point: np.ndarray) -> np.ndarray:
    """Colours [3, point] at points [3, point]: long rows, which NumPy runs along fast."""
    return TEXTURES[texture.kind](texture, point)


def random_rotation(rng: np.random.Generator) -> np.ndarray:
    """A rotation matrix [3, 3], uniform over rotations."""
    w, x, y, z = (lambda q: q / np.linalg.norm(q))(rng.normal(size=4))
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def hsv_to_rgb(hue: np.ndarray, saturation: np.ndarray, value: np.ndarray) -> np.ndarray:
    """RGB [..., 3] of hue, saturation and value in [0, 1]."""
    offset = np.stack([hue, hue - 1 / 3, hue - 2 / 3], axis=-1)
    ramp = np.clip(np.abs(np.mod(offset, 1.0) * 6.0 - 3.0) - 1.0, 0.0, 1.0)
    return value[..., None] * (1.0 - saturation[..., None] * (1.0 - ramp))


def _turned(texture: Texture, point: np.ndarray) -> np.ndarray:
    """Points in the pattern's own frame, in cycles."""
    frame = texture.frame * np.float32(texture.frequency)
    rows = [row[0] * point[0] + row[1] * point[1] + row[2] * point[2] for row in frame]
    return np.stack(rows) + texture.phase[:, None]


def _blend(texture: Texture, weight: np.ndarray) -> np.ndarray:
    """Mixes the first two colours, `weight` [point] of the second, [3, point]."""
    first, second = texture.palette[:2, :, None]
    return first + weight * (second - first)


def _sharpen(signed: np.ndarray) -> np.ndarray:
    return np.clip(0.5 + EDGE * signed, 0.0, 1.0)


def _plain(texture: Texture, point: np.ndarray) -> np.ndarray:
    return np.broadcast_to(texture.palette[0][:, None], (3, point.shape[1]))


def _noise(texture: Texture, point: np.ndarray) -> np.ndarray:
    """Sums of sine waves, each displaced by the one before, mapped over three colours."""
    scale = np.float32(0.6 * texture.frequency)
    total, last = np.zeros(point.shape[1], np.float32), np.float32(0.0)
    for x, y, z, phase in texture.waves:
        last = np.sin(scale * (x * point[0] + y * point[1] + z * point[2]) + 3.0 * phase + last)
        total = total + last
    level = np.clip(1.0 + 0.6 * total, 0.0, 2.0)
    low, middle, high = texture.palette[:3, :, None]
    below, above = np.minimum(level, 1.0), np.maximum(level - 1.0, 0.0)
    return low + below * (middle - low) + above * (high - middle)


def _stripes(texture: Texture, point: np.ndarray) -> np.ndarray:
    cycle = _turned(texture, point)[0]
    return _blend(texture, _sharpen(np.sin(np.float32(2 * np.pi) * cycle)))


def _checks(texture: Texture, point: np.ndarray) -> np.ndarray:
    wave = np.sin(np.float32(np.pi) * _turned(texture, point))
    return _blend(texture, _sharpen(2.0 * wave[0] * wave[1] * wave[2]))


def _dots(texture: Texture, point: np.ndarray) -> np.ndarray:
    cell = np.mod(_turned(texture, point), 1.0) - 0.5
    squared = cell[0] ** 2 + cell[1] ** 2 + cell[2] ** 2
    return _blend(texture, _sharpen(4.0 * (0.12 - squared)))


def _cells(texture: Texture, point: np.ndarray) -> np.ndarray:
    """The colour of the nearest feature point."""
    nearest = np.full(point.shape[1], np.inf, np.float32)
    owner = np.zeros(point.shape[1], np.intp)
    for index, (x, y, z) in enumerate(texture.cells):
        squared = (point[0] - x) ** 2 + (point[1] - y) ** 2 + (point[2] - z) ** 2
        closer = squared < nearest
        nearest[closer] = squared[closer]
        owner[closer] = index % PALETTE_SIZE
    return texture.palette.T.take(owner, axis=1)


TEXTURES: dict[str, Callable[[Texture, np.ndarray], np.ndarray]] = {
    "plain": _plain,
    "noise": _noise,
    "stripes": _stripes,
    "checks": _checks,
    "dots": _dots,
    "cells": _cells,
}
