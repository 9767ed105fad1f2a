"""Views from a camera file of its own: photographs where all of them exist, else cameras alone."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from tttlrm_jax.captures.camera_files import Frame
from tttlrm_jax.captures.capture import load_views, read_cameras, read_capture
from tttlrm_jax.captures.pictures.images import ResizeMode, image_size, resize_intrinsics
from tttlrm_jax.core.errors import InputError, listed
from tttlrm_jax.core.types import Cameras, Views


def read_other_views(
    path: str | Path,
    field: str,
    size: tuple[int, int],
    resize_mode: ResizeMode,
    background: tuple[float, float, float],
) -> Views | Cameras:
    """Views [view, ...] of a capture directory or camera file, resized to `size`; NumPy arrays.

    Poses float64 are those of the file. Without images, frames have to state their size. Raises
    InputError where only some images exist, naming `field`.
    """
    frames = read_cameras(path, field)
    missing = [frame.name for frame in frames if not os.path.isfile(frame.image_path)]
    if not missing:
        image, cameras = load_views(
            read_capture(path), range(len(frames)), *size, resize_mode=resize_mode,
            background=background,
        )  # fmt: skip
        return Views(image, cameras)  # type: ignore[arg-type]
    if len(missing) < len(frames):
        raise InputError.of(
            field, path, f"has images for some of its {len(frames)} frames and none for "
            f"{listed(missing)}", "restore them, or use a file of cameras alone",
        )  # fmt: skip
    lenses: Any = np.stack([
        resize_intrinsics(frame.intrinsics, stated_size(frame, field), size, resize_mode)
        for frame in frames
    ])  # fmt: skip
    poses: Any = np.stack([frame.world_from_camera for frame in frames])
    return Cameras(poses, lenses, *size)


def likely_size(frame: Frame) -> tuple[int, int]:
    """Height and width of a frame: as stated, else of its picture, else twice the middle of its
    lens. Raises InputError for a picture that cannot be read."""
    if frame.size is not None:
        return frame.size
    if os.path.isfile(frame.image_path):
        return image_size(frame.image_path)
    return max(1, round(2 * frame.intrinsics[3])), max(1, round(2 * frame.intrinsics[2]))


def stated_size(frame: Frame, field: str) -> tuple[int, int]:
    """Height and width of a frame without image. Raises InputError where its file has none."""
    if frame.size is None or not np.isfinite(frame.intrinsics).all():
        raise InputError(
            f"{field}: frame {frame.number} ({frame.name}) states no size of its picture; add w "
            "and h"
        )
    return frame.size
