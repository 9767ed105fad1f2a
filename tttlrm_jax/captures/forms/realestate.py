"""RealEstate10K's clips: a text file, a line with the video's address, then a line for each frame.

A line has 19 numbers: the time stamp in microseconds; fx, fy, cx, cy in parts of the picture's
width and height; two that are not used; and the rows of the 3x4 matrix world to camera in OpenCV
axes. Pictures are named by their time stamp, in a folder of the clip's name, in `frames/` or a
folder of pictures, or beside the file. There is no distortion.

Source: the data set's page (Zhou 2018).
"""

import os
from pathlib import Path

import numpy as np

from tttlrm_jax.captures.camera_files import NO_LENS, CameraFile, Frame
from tttlrm_jax.captures.forms import parts
from tttlrm_jax.captures.pictures.images import image_size
from tttlrm_jax.captures.pose_matrices import square_matrix
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.files.text_files import read_lines
from tttlrm_jax.core.geometry.poses import pose_problem

COLUMNS = 19
SUFFIXES = (".png", ".jpg", ".jpeg")


def find(directory: Path) -> list[Path]:
    """Text files of this form."""
    return [path for path in parts.files_in(directory, ".txt") if knows(path)]


def knows(path: Path) -> bool:
    """Whether the first line is an address and the second has 19 entries."""
    if path.suffix.lower() != ".txt" or not path.is_file():
        return False
    lines = [line for line in parts.head(path).splitlines() if line.strip()][:2]
    is_address = bool(lines) and lines[0].lower().startswith(("http://", "https://"))
    return is_address and len(lines) == 2 and len(lines[1].split()) == COLUMNS


def read(path: Path) -> CameraFile:
    """Reads a clip and finds its pictures."""
    root = path.parent
    places = [root / path.stem, root / "frames" / path.stem, root / "frames"]
    places += [root / name for name in parts.PICTURE_FOLDERS]
    return read_clip(path, parts.first_with_pictures(places) or places[0])


def read_clip(path: Path, folder: Path) -> CameraFile:
    """Reads a clip whose pictures lie in `folder`; frames stay in its order, that of time."""
    rows = [line.split() for line in read_lines(path, "clip")[1:] if line]
    if not rows:
        raise InputError(f"clip={path} lists 0 frames; a capture needs at least one")
    frames = tuple(_frame(path, folder, number, row) for number, row in enumerate(rows))
    return CameraFile(path.stem, frames, {})


def _frame(path: Path, folder: Path, number: int, row: list[str]) -> Frame:
    where = f"clip={path}: frame {number}"
    try:
        values = parts.numbers(where, "line", row[1:], COLUMNS - 1)
    except InputError:
        raise InputError(
            f"{where} is not {COLUMNS} finite numbers; correct or remove the line"
        ) from None
    camera_from_world = square_matrix(values[6:])
    problem = pose_problem(camera_from_world)
    if problem is not None:
        raise InputError(f"{where}: its pose {problem}; give a rotation and a translation")
    candidates = [folder / (row[0] + suffix) for suffix in SUFFIXES]
    image_path = next((place for place in candidates if os.path.isfile(place)), candidates[0])
    size, lens = None, NO_LENS  # of a missing picture, reported or skipped later
    if os.path.isfile(image_path):
        size = image_size(image_path)
        lens = values[:4] * np.tile([size[1], size[0]], 2)
    if (lens[:2] <= 0).any():
        raise InputError(f"{where}: focal lengths {lens[:2].tolist()} are not positive; correct it")
    return Frame(number, image_path.name, image_path, lens, np.linalg.inv(camera_from_world), size)
