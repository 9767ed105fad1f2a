"""Float images to bytes, crisp enlargement, PNG."""

import io

import numpy as np
from PIL import Image

BACKDROP_DIFFERENCE = 0.02  # of a pixel from the median, in each channel
BACKDROP_SHARE = 0.9  # of the pixels at the edges of all pictures


def to_uint8(image) -> np.ndarray:
    """[0, 1] to 0..255, rounded and clipped; NaN becomes 0. Any shape. Bytes stay as they are."""
    if np.asarray(image).dtype == np.uint8:
        return np.asarray(image)
    scaled = np.nan_to_num(np.asarray(image, np.float32), nan=0.0) * 255
    return np.rint(scaled.clip(0, 255)).astype(np.uint8)


def enlarge(image: np.ndarray, factor: int) -> np.ndarray:
    """Repeats every pixel `factor` times in both directions; [..., height, width, channel]."""
    return image.repeat(factor, axis=-3).repeat(factor, axis=-2)


def enlargement(height: int, width: int, wanted: int) -> int:
    """The smallest whole factor that brings the longer side to `wanted` pixels (1 if it is)."""
    return max(1, -(-wanted // max(height, width)))


def backdrop(images: np.ndarray, valid: np.ndarray) -> np.ndarray | None:
    """The colour [3] of a plain backdrop: the one that nearly all edges of the pictures have.

    `images` [view, height, width, 3] in [0, 1]; only pixels that are `valid` [view, height, width]
    count. None where edges differ.
    """
    edge = np.ones(images.shape[1:3], bool)
    edge[1:-1, 1:-1] = False
    pixels = images[valid & edge]
    if not len(pixels):
        return None
    colour = np.median(pixels, axis=0)
    alike = np.abs(pixels - colour).max(axis=1) <= BACKDROP_DIFFERENCE
    return colour if alike.mean() >= BACKDROP_SHARE else None


def at_most(image: np.ndarray, side: int) -> np.ndarray:
    """A uint8 image [height, width, 3], reduced where its longer side exceeds `side` pixels."""
    if max(image.shape[:2]) <= side:
        return image
    picture = Image.fromarray(image)
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    return np.asarray(picture)


def png_bytes(image: np.ndarray) -> bytes:
    """A uint8 image [height, width, 3], or uint16 levels [height, width], as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()
