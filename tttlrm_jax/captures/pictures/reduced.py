"""Cameras of pictures that are there at a part of their size only, as in `images_4`."""

import dataclasses
import os
from typing import TYPE_CHECKING

import numpy as np

from tttlrm_jax.captures.pictures.images import image_size
from tttlrm_jax.captures.pictures.paths import REDUCED_FOLDERS, Place

if TYPE_CHECKING:
    from tttlrm_jax.captures.camera_files import Frame


def reduced_frames(
    frames: tuple["Frame", ...], place: Place
) -> tuple[tuple["Frame", ...], tuple[str, ...]]:
    """Frames whose intrinsics and size are those of the pictures found in `place`, and a note.

    Changed only where the folder is one of `REDUCED_FOLDERS`, the camera states the whole size and
    the first picture of that size is as much smaller as the folder says, within a pixel.
    """
    if place.folder not in REDUCED_FOLDERS:
        return frames, ()
    factor = int(place.folder.rpartition("_")[2])
    first = {frame.size: frame for frame in reversed(frames) if os.path.isfile(frame.image_path)}
    sizes = {size: image_size(frame.image_path) for size, frame in first.items() if size}
    reduced: dict[tuple[int, ...], tuple[int, int]] = {
        size: actual
        for size, actual in sizes.items()
        if all(abs(side / factor - part) <= 1 for side, part in zip(size, actual, strict=True))
    }
    if not reduced:
        return frames, ()
    scaled = tuple(resized_frame(frame, reduced.get(frame.size or ())) for frame in frames)
    return scaled, (f"intrinsics for the whole size are scaled to that of {place.folder}",)


def resized_frame(frame: "Frame", size: tuple[int, int] | None) -> "Frame":
    """The frame for its picture resized to `size` (height, width)."""
    if size is None or frame.size is None or size == frame.size:
        return frame
    scale = np.tile([size[1] / frame.size[1], size[0] / frame.size[0]], 2)
    return dataclasses.replace(frame, intrinsics=frame.intrinsics * scale, size=size)
