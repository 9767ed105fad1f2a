"""Images from files and uint8 arrays: decoding, compositing, resizing with their intrinsics.

uint8 images are RGB or RGBA with straight alpha, channels last; float images are in [0, 1].
Intrinsics are (fx, fy, cx, cy) in pixels, pixel centres at +0.5, float64.

Pixels are those that are stored: an EXIF orientation is not applied, so cameras belong to the
unrotated picture, as in COLMAP.
"""

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

from tttlrm_jax.core.errors import InputError

ResizeMode = Literal["tttlrm", "lact"]
_Result = TypeVar("_Result")
WHITE = (1.0, 1.0, 1.0)
DECODING_ERRORS = (
    UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError,
    EOFError, zlib.error,
)  # fmt: skip
EXIF_ORIENTATION = 0x0112  # tag; 1: upright, 2 to 4: mirrored or upside down, 5 to 8: sideways
# of photographs that Pillow does not decode
UNREAD_SUFFIXES = (
    ".heic", ".heif", ".hif", ".jxl", ".dng", ".cr2", ".cr3", ".nef", ".nrw", ".arw", ".raf",
    ".rw2", ".orf", ".pef", ".srw", ".gpr",
)  # fmt: skip
FORMATS_OF_16_BITS = ("PNG", "PPM")  # that some versions of Pillow decode to 32-bit integers


def read_image(path: str | Path) -> np.ndarray:
    """Decodes a file to uint8 [height, width, 3] or, where it has transparency, [.., 4].

    The stored pixels, whatever the EXIF orientation. 16-bit grey keeps its full range; raises
    InputError for floats and 32-bit integers, whose range the file does not say.
    """

    def decode(image: Image.Image) -> np.ndarray:
        mode = "RGBA" if is_transparent(image) else "RGB"
        return np.asarray(to_8_bit(image).convert(mode))

    return open_image(path, decode)


def image_size(path: str | Path) -> tuple[int, int]:
    """Height and width from a file's header, without decoding its pixels."""
    return open_image(path, lambda image: (image.height, image.width))


def exif_orientation(path: str | Path) -> int:
    """The EXIF orientation, 1 to 8, that viewers apply and `read_image` does not; 1 if absent."""
    return open_image(path, lambda image: image.getexif().get(EXIF_ORIENTATION, 1))


def is_transparent(image: Image.Image) -> bool:
    """Whether an image has an alpha channel or a transparent colour."""
    return image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info


def open_image(path: str | Path, use: Callable[[Image.Image], _Result]) -> _Result:
    try:
        with Image.open(path) as image:
            return use(image)
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"image={path} does not exist; restore it or drop its frame") from None
    except DECODING_ERRORS as error:
        remedy, suffix = "replace the truncated or broken file", Path(path).suffix.lower()
        if suffix in UNREAD_SUFFIXES:
            remedy = f"{suffix[1:].upper()} is not read here: convert such pictures to JPEG or PNG"
        raise InputError(f"image={path} cannot be decoded ({error}); {remedy}") from None


def composite(
    image: np.ndarray, background: tuple[float, float, float] = WHITE
) -> tuple[np.ndarray, np.ndarray]:
    """Image float32 [..., 3] on the background, and coverage float32 [...], of uint8 [..., 3|4]."""
    colour = image[..., :3].astype(np.float32) / np.float32(255)
    if image.shape[-1] == 3:
        return colour, np.ones(image.shape[:-1], np.float32)
    alpha = image[..., 3].astype(np.float32) / np.float32(255)
    ground = np.asarray(background, np.float32) * (np.float32(1) - alpha)[..., None]
    return colour * alpha[..., None] + ground, alpha


def flatten(image: np.ndarray, background: tuple[float, float, float] = WHITE) -> np.ndarray:
    """uint8 [..., 3] of uint8 [..., 3 or 4], composited on the background and rounded."""
    if image.shape[-1] == 3:
        return image
    return np.rint(255 * composite(image, background)[0]).astype(np.uint8)


def resize(
    image: np.ndarray, intrinsics: np.ndarray, size: tuple[int, int], mode: ResizeMode
) -> tuple[np.ndarray, np.ndarray]:
    """Lanczos-resizes uint8 [h, w, channel] to `size` (height, width); intrinsics [4] follow.

    `tttlrm` scales x and y apart, without cropping; `lact` scales both by the larger ratio and
    crops the middle.
    """
    height, width = size
    high, wide, top, left = _enlarged(image.shape[:2], size, mode)
    resized = np.asarray(Image.fromarray(image).resize((wide, high), Image.Resampling.LANCZOS))
    cropped = resized[top : top + height, left : left + width]
    return cropped, resize_intrinsics(intrinsics, image.shape[:2], size, mode)


def flattened_to_size(
    pixels: np.ndarray,
    intrinsics: np.ndarray,
    size: tuple[int, int],
    mode: ResizeMode,
    background: tuple[float, float, float],
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """Image float32 [*size, 3] on the background, coverage float32 [*size] or None, intrinsics.

    uint8 [h, w, 3 or 4] is composited, then resized; opaque images have no coverage.
    """
    colour, lens = resize(flatten(pixels, background), intrinsics, size, mode)
    mask = None
    if pixels.shape[-1] == 4:
        alpha, _ = resize(pixels[..., 3], intrinsics, size, mode)
        mask = alpha.astype(np.float32) / np.float32(255)
    return composite(colour)[0], mask, lens


def resize_intrinsics(
    intrinsics: np.ndarray, old: tuple[int, ...], size: tuple[int, int], mode: ResizeMode
) -> np.ndarray:
    """Intrinsics [4] that `resize` gives to an image of the size `old`, without its pixels."""
    high, wide, top, left = _enlarged(old, size, mode)
    if mode == "tttlrm":
        return np.asarray(intrinsics) * np.tile([wide / old[1], high / old[0]], 2)
    scale = max(size[1] / old[1], size[0] / old[0])
    return np.asarray(intrinsics) * scale - np.array([0.0, 0.0, left, top])


def after_resize(
    places: np.ndarray, old: tuple[int, ...], size: tuple[int, int], mode: ResizeMode
) -> np.ndarray:
    """Where `resize` moves what was at positions (x, y) [..., 2] in an image of the size `old`."""
    high, wide, top, left = _enlarged(old, size, mode)
    return places * [wide / old[1], high / old[0]] - [left, top]


def _enlarged(
    old: tuple[int, ...], size: tuple[int, int], mode: ResizeMode
) -> tuple[int, int, int, int]:
    """Height and width to resize to, then top and left of the part that is kept."""
    height, width = size
    if mode == "tttlrm":
        return height, width, 0, 0
    if mode != "lact":
        raise InputError.of("resize", mode, "is unknown", "use tttlrm or lact")
    scale = max(width / old[1], height / old[0])
    # rounding never goes below the request: the larger ratio reaches it exactly
    wide, high = max(round(old[1] * scale), width), max(round(old[0] * scale), height)
    return high, wide, (high - height) // 2, (wide - width) // 2


def resize_map(values: np.ndarray, size: tuple[int, int], mode: ResizeMode) -> np.ndarray:
    """Values [h, w] at the pixel centres that `resize` to `size` would have; nothing is mixed."""
    height, width = size
    old_height, old_width = values.shape
    if (old_height, old_width) == (height, width):
        return values
    step_y, step_x = old_height / height, old_width / width
    if mode == "lact":
        step_y = step_x = min(step_y, step_x)
    row = 0.5 * old_height + (np.arange(height) + 0.5 - 0.5 * height) * step_y
    column = 0.5 * old_width + (np.arange(width) + 0.5 - 0.5 * width) * step_x
    return values[row.astype(np.int64)[:, None], column.astype(np.int64)]


def round_to_patch(height: float, width: float, patch_size: int) -> tuple[int, int]:
    """The nearest multiples of the patch size, at least one patch each way."""
    return (
        max(1, int(height / patch_size + 0.5)) * patch_size,
        max(1, int(width / patch_size + 0.5)) * patch_size,
    )


def to_8_bit(image: Image.Image) -> Image.Image:
    """16-bit greyscale to 8 bits; other integers up to 8 bits are converted by Pillow itself."""
    unbounded = image.mode == "F" or (image.mode == "I" and image.format not in FORMATS_OF_16_BITS)
    if unbounded:
        kind = "floats" if image.mode == "F" else "32-bit integers"
        raise InputError(
            f"image={getattr(image, 'filename', '')} holds {kind} of unknown range; "
            "save it with 8 or 16 bits per channel"
        )
    if not image.mode.startswith("I"):
        return image
    return Image.fromarray((np.asarray(image).astype(np.float64) / 257).astype(np.uint8))
