"""LLFF's `poses_bounds.npy`, a row of 17 numbers for each picture of `images/`.

The first 15 are a 3x5 matrix, row by row: the camera-to-world rotation, whose columns are the
camera's axes down, right and backwards; its centre; and (height, width, focal length) in pixels.
The last two are the nearest and farthest depth and are not used. The principal point is the
middle; there is no distortion. Rows belong to pictures in plain order of names (10 before 2).

Where `images/` is absent but `images_2`, `images_4` or `images_8` is there, its pictures are read
and the lens is that of their size.

Source: LLFF's README and the data of NeRF (Mildenhall 2019, 2020).
"""

from pathlib import Path

import numpy as np

from tttlrm_jax.captures.camera_files import CameraFile
from tttlrm_jax.captures.forms import parts
from tttlrm_jax.core.errors import InputError

NAME = "poses_bounds.npy"
COLUMNS = 17
OPENCV_FROM_LLFF = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, -1.0]])


def find(directory: Path) -> list[Path]:
    """The file, if it is there."""
    return [directory / NAME] if knows(directory / NAME) else []


def knows(path: Path) -> bool:
    """Whether this is the file, by its name."""
    return path.name == NAME and path.is_file()


def read(path: Path) -> CameraFile:
    """Reads the file; there must be as many pictures as rows."""
    rows = parts.read_array(path)
    if rows.ndim != 2 or rows.shape[1] != COLUMNS or not len(rows):
        raise InputError(
            f"{path} has shape {rows.shape}, not (pictures, {COLUMNS}); make it again with LLFF"
        )
    folders = [path.parent / name for name in parts.PICTURE_FOLDERS]
    folder = parts.first_with_pictures(folders) or folders[0]
    pictures, notes = parts.in_plain_order(path, folder, len(rows))
    cameras = [
        _camera(f"{path}: row {number}", row, picture.name)
        for number, (row, picture) in enumerate(zip(rows, pictures, strict=True))
    ]
    inner = str(folder.relative_to(path.parent))
    return parts.capture_file(path, path.parent, cameras, folders=(inner,), notes=notes)


def _camera(where: str, row: np.ndarray, picture: str) -> parts.Camera:
    matrix = parts.numbers(where, "entries", row.tolist(), COLUMNS)[:15].reshape(3, 5)
    pose = np.column_stack([matrix[:, :3] @ OPENCV_FROM_LLFF, matrix[:, 3]])
    height, width, focal = matrix[:, 4]
    return parts.Camera(
        where=where,
        picture=picture,
        world_from_camera=parts.rigid(where, "its pose", pose),
        lens=parts.centred(focal, focal),
        size=parts.size_of(where, width, height),
    )
