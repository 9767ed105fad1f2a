"""Depth maps on disk: 16-bit PNG in various units, Sintel's .dpt; float32 metres, 0 unknown."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from tttlrm_jax.data.images import open_image
from tttlrm_jax.errors import InputError

SINTEL_TAG = 202021.25  # at the head of .dpt and .cam files
INVALID_16_BIT = 65535  # some writers mark unknown depth so, others by 0


def png_depth(units_per_metre: float) -> Callable[[Path], np.ndarray]:
    """A reader of 16-bit grey PNG whose values are metres times `units_per_metre`."""

    def read(path: Path) -> np.ndarray:
        def decode(image: Image.Image) -> np.ndarray:
            if not image.mode.startswith("I"):
                raise InputError.of(
                    f"depth {path}", f"mode {image.mode}", "is not 16-bit grey",
                    "give depth as PNG of 16 bits",
                )  # fmt: skip
            return np.asarray(image).astype(np.int64)

        values = open_image(path, decode)
        known = (values > 0) & (values < INVALID_16_BIT)
        return np.where(known, values / units_per_metre, 0.0).astype(np.float32)

    return read


def read_sintel_depth(path: Path) -> np.ndarray:
    """A Sintel .dpt file: tag, width, height, float32 metres."""
    content = read_tagged(path)
    width, height = np.frombuffer(content, "<i4", 2, 4) if len(content) >= 12 else (0, 0)
    if width < 1 or height < 1 or len(content) != 12 + 4 * int(width) * int(height):
        raise InputError(f"depth={path} is cut short or no Sintel depth file; fetch it again")
    values = np.frombuffer(content, "<f4", int(width) * int(height), 12).reshape(height, width)
    return np.where(np.isfinite(values) & (values > 0), values, 0.0).astype(np.float32)


def read_tagged(path: Path) -> bytes:
    """Content of a Sintel file, whose tag is checked."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"file={path} cannot be read ({error.strerror}); restore it") from None
    if len(content) < 4 or np.frombuffer(content, "<f4", 1)[0] != np.float32(SINTEL_TAG):
        raise InputError(f"file={path} has not the tag of a Sintel file; fetch it again")
    return content


def write_png_depth(path: Path, depth: np.ndarray) -> None:
    """Writes depth [height, width] in metres as 16-bit PNG in millimetres; 0 is unknown.

    Depth that is not finite or not above 0 becomes 0, depth above 65.534 m that limit.
    """
    known = np.isfinite(depth) & (depth > 0)
    values = np.clip(np.rint(np.where(known, depth, 0.0) * 1000.0), 0, INVALID_16_BIT - 1)
    Image.fromarray(values.astype(np.uint16)).save(path)
