"""Random pictures for surfaces: writing, clouds, bricks and collages, tiling in both directions.

Pictures are uint8 [PICTURE_SIZE, PICTURE_SIZE, 3] RGB, row 0 at the top. Writing uses the font
that Pillow brings.
"""

import string
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tttlrm_jax.procedural.appearance.textures import hsv_to_rgb

PICTURE_SIZE = 128  # pixels of a tile
LETTERS = string.ascii_letters + string.digits + "&?!%#@+"


def random_picture(rng: np.random.Generator) -> np.ndarray:
    """Draws a kind by `PICTURES`' weights, and a picture of it."""
    kinds, weights = list(PICTURES), np.array([weight for _, weight in PICTURES.values()])
    kind = kinds[rng.choice(len(kinds), p=weights / weights.sum())]
    return PICTURES[kind][0](rng)


def random_colours(rng: np.random.Generator, count: int) -> np.ndarray:
    """RGB [count, 3] in [0, 1], light and dark by turns, of related or unrelated hues."""
    hue = rng.uniform() + rng.uniform(-0.5, 0.5, count) * rng.choice([0.1, 0.3, 1.0])
    saturation = rng.uniform(0.0, 1.0, count) ** 1.4
    light = np.arange(count) % 2 == rng.integers(2)
    value = np.where(light, rng.uniform(0.75, 1.0, count), rng.uniform(0.15, 0.65, count))
    return hsv_to_rgb(np.mod(hue, 1.0), saturation, value)


def _writing(rng: np.random.Generator) -> np.ndarray:
    """Lines of random words in one to three colours, now and then in front of clouds."""
    colours = np.rint(255 * random_colours(rng, 4)).astype(int)
    image = Image.new("RGB", (PICTURE_SIZE, PICTURE_SIZE), tuple(map(int, colours[0])))
    if rng.random() < 0.25:
        image = Image.fromarray(_clouds(rng))
    draw = ImageDraw.Draw(image)
    size = int(rng.choice([12, 16, 24, 36, 60]))
    font = ImageFont.load_default(size)
    for number, top in enumerate(range(0, PICTURE_SIZE - size // 2, int(size * 1.15))):
        words = [_word(rng) for _ in range(2 + PICTURE_SIZE // size // 2)]
        ink = colours[1 + 2 * (number % 2 if rng.random() < 0.5 else 0)]
        draw.text((int(rng.integers(0, 6)), top), " ".join(words), tuple(map(int, ink)), font)
    return np.asarray(image)


def _word(rng: np.random.Generator) -> str:
    return "".join(LETTERS[i] for i in rng.integers(len(LETTERS), size=rng.integers(1, 8)))


def _clouds(rng: np.random.Generator) -> np.ndarray:
    """Noise whose spectrum falls like a power of frequency, mapped over three or four colours."""
    frequency = np.fft.fftfreq(PICTURE_SIZE) * PICTURE_SIZE
    stretch = np.exp(rng.uniform(-1.2, 1.2))  # above or below 1: grain along one axis
    radius = np.hypot(frequency[:, None] * stretch, frequency[None, :] / stretch)
    radius[0, 0] = np.inf
    spectrum = np.fft.fft2(rng.normal(size=radius.shape)) / radius ** rng.uniform(1.0, 2.0)
    noise = np.fft.ifft2(spectrum).real
    level = np.clip(0.5 + noise / (4.0 * noise.std()), 0.0, 1.0)
    if rng.random() < 0.35:
        level = np.abs(2.0 * np.mod(rng.integers(2, 5) * level, 1.0) - 1.0)  # veins
    colours = random_colours(rng, int(rng.integers(3, 5)))
    stops = np.linspace(0.0, 1.0, len(colours))
    mapped = [np.interp(level, stops, channel) for channel in colours.T]
    return np.rint(255 * np.stack(mapped, axis=-1)).astype(np.uint8)


def _bricks(rng: np.random.Generator) -> np.ndarray:
    """Rows of bricks or tiles, each of its own shade, with joints."""
    rows, columns = int(rng.choice([4, 6, 8])) * 2 // 2, int(rng.choice([2, 4, 8]))
    height, width = PICTURE_SIZE / rows, PICTURE_SIZE / columns
    y, x = np.mgrid[:PICTURE_SIZE, :PICTURE_SIZE] + 0.5
    row = (y // height).astype(int)
    shifted = x + (row % 2) * rng.choice([0.0, 0.5]) * width
    column = (shifted // width).astype(int) % columns
    brick, joint, other = random_colours(rng, 3)
    shade = rng.uniform(0.75, 1.1, (rows, columns, 1))
    blend = (rng.random((rows, columns, 1)) < rng.choice([0.0, 0.3])).astype(float)
    tiles = np.clip(shade * (brick + blend * (other - brick)), 0.0, 1.0)
    colour = tiles[np.minimum(row, rows - 1), column]
    gap = rng.uniform(1.0, 3.0)
    colour[(y % height < gap) | (shifted % width < gap)] = joint
    grain = 1.0 + 0.06 * rng.normal(size=(PICTURE_SIZE, PICTURE_SIZE, 1))
    return np.rint(255 * np.clip(colour * grain, 0.0, 1.0)).astype(np.uint8)


def _collage(rng: np.random.Generator) -> np.ndarray:
    """Overlapping discs, boxes, strokes and polygons."""
    count = int(rng.integers(10, 40))
    colours = np.rint(255 * random_colours(rng, count + 1)).astype(int)
    image = Image.new("RGB", (PICTURE_SIZE, PICTURE_SIZE), tuple(map(int, colours[-1])))
    draw = ImageDraw.Draw(image)
    for colour in colours[:-1]:
        ink = tuple(map(int, colour))
        x, y = rng.uniform(0, PICTURE_SIZE, 2)
        w, h = rng.uniform(4, PICTURE_SIZE / 3, 2)
        shape = rng.integers(4)
        if shape == 0:
            draw.ellipse([x - w / 2, y - h / 2, x + w / 2, y + h / 2], ink)
        elif shape == 1:
            draw.rectangle([x, y, x + w, y + h], ink)
        elif shape == 2:
            end = rng.uniform(0, PICTURE_SIZE, 2)
            draw.line([x, y, *end], ink, int(rng.integers(2, 9)))
        else:
            corners = np.stack([x + w * rng.normal(size=4), y + h * rng.normal(size=4)], axis=-1)
            draw.polygon([tuple(corner) for corner in corners.tolist()], ink)
    return np.asarray(image)


PICTURES: dict[str, tuple[Callable[[np.random.Generator], np.ndarray], float]] = {
    "writing": (_writing, 0.3),
    "clouds": (_clouds, 0.4),
    "bricks": (_bricks, 0.12),
    "collage": (_collage, 0.18),
}
