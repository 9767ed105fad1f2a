"""Pictures and depth maps in a directory, one by one as they are rendered, or a film."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from tttlrm_jax.apps.render.cameras import Shot
from tttlrm_jax.captures.pictures.depth_files import write_png_depth
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.files.output_directory import (
    check_replaceable,
    creation_errors,
    disk_errors,
)
from tttlrm_jax.core.files.whole_files import draft_of, write_whole
from tttlrm_jax.core.pictures import png_bytes, to_uint8
from tttlrm_jax.export.cameras.formats import OPENCV_FILE, write_cameras
from tttlrm_jax.export.video import write_video
from tttlrm_jax.rasterize import Rendering

DEPTH_FOLDER = "depth"
PNG_LIMIT = 65.534  # units that a 16-bit picture of thousandths holds


class PictureFiles:
    """A directory that fills with pictures; one that is stopped early holds those taken so far.

    `opencv_cameras.json` beside them makes it a capture that eval.py reads.
    """

    def __init__(self, directory: Path, shots: Sequence[Shot], depth_format: str | None):
        """Raises InputError where the directory holds anything else or cannot be written."""
        self._directory, self._depth_format = directory, depth_format
        names = [f"{shot.name}.png" for shot in shots]
        check_replaceable(directory, {*names, OPENCV_FILE, DEPTH_FOLDER}, "output")
        with creation_errors(directory):
            directory.mkdir(parents=True, exist_ok=True)
            if depth_format is not None:
                (directory / DEPTH_FOLDER).mkdir(exist_ok=True)
            if not os.access(directory, os.W_OK):
                raise PermissionError(13, "Permission denied")
        self.num_written, self.num_too_far = 0, 0  # pixels beyond what a depth picture holds

    def add(self, shot: Shot, rendering: Rendering) -> None:
        """Writes one picture, and its depth where that is wanted."""
        with disk_errors(self._directory, self._directory):
            picture = self._directory / f"{shot.name}.png"
            write_whole(picture, png_bytes(to_uint8(rendering.rgb)))
            if self._depth_format is not None:
                self._write_depth(shot.name, mean_depth(rendering))
        self.num_written += 1

    def _write_depth(self, name: str, depth: np.ndarray) -> None:
        path = self._directory / DEPTH_FOLDER / name
        if self._depth_format == "npy":
            np.save(path.with_name(f"{name}.npy"), depth)
            return
        self.num_too_far += int(np.count_nonzero(depth > PNG_LIMIT))
        write_png_depth(path.with_name(f"{name}.png"), depth)

    def write_cameras(self, shots: Sequence[Shot], offset: np.ndarray) -> None:
        """The cameras of the pictures, in the frame of the scene with its offset added."""
        cameras = [shot.camera for shot in shots]
        poses = np.stack([np.array(each.world_from_camera, np.float64) for each in cameras])
        poses[:, :3, 3] += offset
        lenses = np.stack([np.asarray(each.intrinsics) for each in cameras])
        sizes = np.array([(each.height, each.width) for each in cameras])
        names = [f"{shot.name}.png" for shot in shots]
        with disk_errors(self._directory, self._directory):
            write_cameras(["opencv"], self._directory, names, poses, lenses, sizes)


def mean_depth(rendering: Rendering) -> np.ndarray:
    """float32 [height, width]: mean depth of what a pixel sees, 0 where it sees less than half of
    something."""
    alpha, depth = np.asarray(rendering.alpha), np.asarray(rendering.depth)
    return np.where(alpha >= 0.5, depth / np.maximum(alpha, 1e-10), 0).astype(np.float32)


@contextmanager
def film_draft(path: Path) -> Iterator[Path]:
    """Where to write a film that takes its name at the end; nothing is left where it fails.

    Raises InputError where it cannot be written.
    """
    draft = draft_of(path).with_suffix(".mp4")
    if path.is_dir():
        raise InputError.of("output", path, "is a directory", "give another name of a film")
    with creation_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.touch()
    try:
        with disk_errors(draft, path):
            yield draft
            os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def write_film(path: Path, frames: Iterator[np.ndarray], fps: float) -> None:
    """Writes pictures of one size as a film, which is there complete or not at all."""
    with film_draft(path) as draft:
        write_video(draft, frames, frames_per_second=fps, min_side=1)
