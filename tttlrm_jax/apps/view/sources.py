"""What lies on disk, as the viewer shows it: cameras of captures."""

import os
import sys
from pathlib import Path

import numpy as np
import tqdm

from tttlrm_jax.apps.view.frusta import MOST_CAMERAS, PICTURE_SIDE, ShownCamera
from tttlrm_jax.captures.camera_files import Frame
from tttlrm_jax.captures.capture import read_cameras
from tttlrm_jax.captures.other_views import likely_size
from tttlrm_jax.captures.pictures.frame_pixels import read_pixels
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.files.packaged_files import capture_path
from tttlrm_jax.core.geometry.offsets import moved_poses
from tttlrm_jax.core.geometry.poses import matrix_from_encoding
from tttlrm_jax.core.pictures import at_most

WHITE = np.uint8(255)


def cameras_of_capture(path: str | Path, offset: np.ndarray | float = 0.0) -> list[ShownCamera]:
    """Those of a capture or camera file, with pictures where they exist, relative to `offset`.

    Raises InputError where there are none.
    """
    frames = read_cameras(capture_path(str(path)), "cameras")
    every = -(-len(frames) // MOST_CAMERAS)
    frames = frames[::every]
    poses = moved_poses(np.stack([frame.world_from_camera for frame in frames]), offset)
    bar = tqdm.tqdm(frames, unit="picture", file=sys.stderr, leave=False, delay=1.0)
    return [shown_frame(frame, pose) for frame, pose in zip(bar, poses, strict=True)]


def shown_frame(frame: Frame, pose: np.ndarray) -> ShownCamera:
    """A frame with its picture, undistorted and small."""
    exists = os.path.isfile(frame.image_path)
    picture = flat(at_most(read_pixels(frame), PICTURE_SIDE)) if exists else None
    return ShownCamera(
        name=frame.name, world_from_camera=pose, intrinsics=frame.intrinsics,
        size=likely_size(frame), picture=picture,
    )  # fmt: skip


def flat(pixels: np.ndarray) -> np.ndarray:
    """On white where it is transparent, uint8 [height, width, 3]."""
    if pixels.shape[-1] == 3:
        return pixels
    cover = pixels[..., 3:].astype(np.uint16)
    mixed = (pixels[..., :3] * cover + WHITE * (255 - cover)) // 255
    return mixed.astype(np.uint8)


def read_trajectory(path: Path) -> np.ndarray:
    """Poses float64 [n, 4, 4] of a file in TUM's form; those that are not finite are left out.

    Raises InputError for another file.
    """
    try:
        rows = np.loadtxt(path, ndmin=2)
    except ValueError as error:
        raise InputError.of("trajectory", path, f"is not one ({error})", "restore it") from None
    rows = rows[np.isfinite(rows).all(axis=1)] if rows.size else np.zeros((0, 8))
    if rows.shape[1] != 8:
        raise InputError.of(
            "trajectory", path, f"has {rows.shape[1]} columns, not 8", "restore the file"
        )
    return matrix_from_encoding(rows[:, [1, 2, 3, 7, 4, 5, 6]])
