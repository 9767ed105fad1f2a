"""Cameras of pictures that are there at another size only, as in `images_4`."""

import dataclasses
import os
from typing import TYPE_CHECKING

import numpy as np

from tttlrm_jax.captures.pictures.images import image_size
from tttlrm_jax.captures.pictures.paths import REDUCED_FOLDERS, Place

if TYPE_CHECKING:
    from tttlrm_jax.captures.camera_files import Frame


def reduced_frames(
    frames: tuple["Frame", ...], place: Place, any_folder: bool = False
) -> tuple[tuple["Frame", ...], tuple[str, ...]]:
    """Frames whose intrinsics and size are those of the pictures found in `place`, and notes.

    Changed only where the folder is one of `REDUCED_FOLDERS` (with `any_folder` whatever it is),
    the camera states a size, and the first picture of that size is it times one factor, within a
    pixel: that of the folder's name or, of DL3DV's videos in 2K, another one.
    """
    if place.folder not in REDUCED_FOLDERS and not any_folder:
        return frames, ()
    first = {frame.size: frame for frame in reversed(frames) if os.path.isfile(frame.image_path)}
    sizes = {size: image_size(frame.image_path) for size, frame in first.items() if size}
    reduced: dict[tuple[int, ...], tuple[int, int]] = {
        size: actual
        for size, actual in sizes.items()
        if actual != size and _one_factor(size, actual)
    }
    scaled = tuple(resized_frame(frame, reduced.get(frame.size or ())) for frame in frames)
    return scaled, tuple(dict.fromkeys(_note(place, *pair) for pair in reduced.items()))


def _one_factor(size: tuple[int, ...], actual: tuple[int, int]) -> bool:
    """Whether one factor makes (height, width) `actual`, but for rounding to whole pixels."""
    (high, wide), (height, width) = size, actual
    return abs(height - width * high / wide) <= 1 or abs(width - height * wide / high) <= 1


def _note(place: Place, size: tuple[int, ...], actual: tuple[int, int]) -> str:
    part = place.folder.rpartition("_")[2] if place.folder in REDUCED_FOLDERS else ""
    if part and all(abs(a / int(part) - b) <= 1 for a, b in zip(size, actual, strict=True)):
        return f"intrinsics for the whole size are scaled to that of {place.folder}"
    return (
        f"intrinsics for {size[1]}x{size[0]} pixels are scaled to pictures of "
        f"{actual[1]}x{actual[0]} in {place.path}"
    )


def resized_frame(frame: "Frame", size: tuple[int, int] | None) -> "Frame":
    """The frame for its picture resized to `size` (height, width)."""
    if size is None or frame.size is None or size == frame.size:
        return frame
    scale = np.tile([size[1] / frame.size[1], size[0] / frame.size[0]], 2)
    return dataclasses.replace(frame, intrinsics=frame.intrinsics * scale, size=size)
