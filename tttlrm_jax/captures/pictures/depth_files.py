"""Depth maps on disk: 16-bit PNG in various units, Sintel's .dpt; float32 metres, 0 unknown.

Beside a capture lie disparity maps, free of shift and scale, as 16-bit PNG (0 unknown):
`disparity/NAME.png` for the frame that the camera file calls `NAME`.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from tttlrm_jax.captures.pictures.images import open_image
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.files.whole_files import write_whole
from tttlrm_jax.core.pictures import png_bytes

SINTEL_TAG = 202021.25  # at the head of .dpt and .cam files
DISPARITY_FOLDER, DISPARITY_LEVELS = "disparity", 65534
INVALID_16_BIT = 65535  # some writers mark unknown depth so, others by 0


def read_png_depth(path: Path, units_per_metre: float) -> np.ndarray:
    """16-bit grey PNG whose values are metres times `units_per_metre`."""

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


def disparity_path(directory: Path, frame_name: str) -> Path:
    """Where the disparity of a frame lies beside its capture."""
    parts = [part for part in Path(frame_name).parts if part not in ("..", "/", ".")]
    return Path(directory) / DISPARITY_FOLDER / Path(*parts).with_suffix(".png")


def write_disparity(path: Path, disparity: np.ndarray) -> None:
    """Writes disparity [height, width], larger is nearer, as levels 1 to 65534; 0 is unknown.

    The smallest finite value becomes 1 and the largest 65534: shift and scale are lost, which a
    monocular network does not know either.
    """
    known = np.isfinite(disparity)
    low, high = (disparity[known].min(), disparity[known].max()) if known.any() else (0.0, 0.0)
    share = (np.where(known, disparity, low) - low) / max(float(high - low), 1e-12)
    levels = np.where(known, np.rint(1.0 + (DISPARITY_LEVELS - 1) * share), 0).astype(np.uint16)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, png_bytes(levels))


def read_disparity(path: Path) -> np.ndarray:
    """Depth float32 [height, width] from a file of disparity; see `depth_of_disparity`."""
    return depth_of_disparity(read_png_depth(path, 1.0))


def depth_of_disparity(levels: np.ndarray) -> np.ndarray:
    """The inverse of stored levels of disparity, 0 where they are 0.

    Its own inverse is free of shift and scale, which suits the relative depth loss and no other.
    """
    known = levels > 0
    return np.where(known, DISPARITY_LEVELS / np.maximum(levels, 1), 0.0).astype(np.float32)
