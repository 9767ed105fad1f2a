"""The pixels of one frame as an ideal pinhole sees them: decoded, masked, undistorted."""

import dataclasses

import numpy as np

from tttlrm_jax.captures.camera_files import Frame
from tttlrm_jax.captures.lenses.distortion import undistort, undistort_map
from tttlrm_jax.captures.lenses.sizes import check_intrinsics
from tttlrm_jax.captures.pictures.images import (
    ResizeMode,
    exif_orientation,
    image_size,
    read_image,
    resize,
)
from tttlrm_jax.captures.pictures.masks import apply_mask, coverage_of
from tttlrm_jax.core.errors import InputError

VALID_LEVEL = 250  # of 255: resizing rings a little beside edges


def read_pixels(frame: Frame) -> np.ndarray:
    """uint8 [h, w, 3], or [h, w, 4] with alpha where the file, a mask or the lens leaves some out.

    Raises InputError for a picture that cannot be read or is not of the size that its camera is
    for, and for a lens that shows none of it.
    """
    pixels = read_image(frame.image_path)
    check_size(frame, pixels.shape[:2])
    if frame.mask is not None:
        pixels = apply_mask(pixels, frame.mask)
    if not frame.distortion:
        return pixels
    straight = undistort(pixels, frame.intrinsics, frame.distortion)
    if not straight[..., 3].any() and (pixels.shape[-1] == 3 or pixels[..., 3].any()):
        raise InputError.of(
            f"distortion of {frame.name}", frame.distortion, "shows no pixel of the photograph",
            "correct the camera file",
        )  # fmt: skip
    return straight


def read_valid(
    frame: Frame, stored: tuple[int, int], size: tuple[int, int], mode: ResizeMode
) -> np.ndarray | None:
    """bool [*size]: pixels of `read_pixels`, resized, that show the scene; None where all do.

    Those past the edge of the photograph do not, and what a mask hides that is not background.
    `stored` is the picture's height and width. A pixel is what all that is mixed into it is.
    """
    hidden = frame.mask is not None and frame.mask.path is not None and not frame.mask.background
    if not hidden and not frame.distortion:
        return None
    seen = np.full(stored, 255, np.uint8)
    if frame.mask is not None and hidden:
        seen = coverage_of(frame.mask, stored)
    if frame.distortion:
        straight = undistort_map(seen, frame.intrinsics, frame.distortion)
        seen = np.rint(straight).astype(np.uint8)
    return resize(seen, frame.intrinsics, size, mode)[0] >= VALID_LEVEL


def check_size(frame: Frame, actual: tuple[int, ...]) -> None:
    """Raises InputError unless a picture of `actual` (height, width) is what the camera is for."""
    if frame.size is None:
        check_intrinsics(f"image={frame.image_path}", frame.intrinsics, actual)
    elif actual != frame.size:
        raise InputError(
            f"image={frame.image_path} is {actual[1]}x{actual[0]} pixels, its camera says "
            f"{frame.size[1]}x{frame.size[0]}; {_size_remedy(frame, actual)}"
        )


def _size_remedy(frame: Frame, actual: tuple[int, ...]) -> str:
    assert frame.size is not None
    orientation = exif_orientation(frame.image_path) if frame.size == actual[::-1] else 1
    if orientation != 1:
        return (
            f"its EXIF orientation={orientation} is not applied: save the image turned and "
            "without it, or give the camera of the stored pixels"
        )
    remedy = "resize the image or correct w, h and intrinsics"
    high, wide = actual[0] / frame.size[0], actual[1] / frame.size[1]
    # one factor explains both sides, but for rounding to whole pixels
    if abs(actual[0] - wide * frame.size[0]) <= 1 or abs(actual[1] - high * frame.size[1]) <= 1:
        return f"{remedy}, or give --intrinsics-scale {wide:.6g}"
    return remedy


def rescaled(frame: Frame, factor: float) -> Frame:
    """The frame with the intrinsics times `factor`, which are then those of its picture.

    A centre that the file did not give is that of the picture already. Raises InputError where the
    stated size times the factor is not the picture's.
    """
    size = image_size(frame.image_path)
    stated = frame.size or size
    intrinsics = frame.intrinsics * factor
    if frame.size is None and (frame.intrinsics[2:] == 0.5 * np.array(size[::-1])).all():
        intrinsics[2:] = frame.intrinsics[2:]
    elif frame.size is not None and np.abs(np.subtract(size, factor * np.array(stated))).max() > 1:
        raise InputError(
            f"image={frame.image_path} is {size[1]}x{size[0]} pixels, and its camera's "
            f"{stated[1]}x{stated[0]} times --intrinsics-scale {factor:g} is not; correct the scale"
        )
    return dataclasses.replace(frame, intrinsics=intrinsics, size=size)
