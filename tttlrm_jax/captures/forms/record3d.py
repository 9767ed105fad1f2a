"""Record3D's export: `metadata.json` (or `metadata`, of an unpacked .r3d) and `rgb/N.jpg`.

`poses` are (qx, qy, qz, qw, tx, ty, tz) of camera to world, metres, one for each picture N from 0.
Axes are ARKit's, which are OpenGL's: the camera looks along -z, y up in the picture as stored; the
world has y up. `K` is the 3x3 matrix of intrinsics in pixels of a picture of `w` x `h`, column by
column; `perFrameIntrinsicCoeffs`, where it is there, has (fx, fy, cx, cy) for each picture and
wins over K. Lenses have no distortion.

Source: record3d.app's export, as nerfstudio's converter reads it (which puts the principal point
in the middle; here it is the one of the file). Assumed: poses belong to the pictures as stored,
also upright ones.
"""

from pathlib import Path
from typing import Any

import numpy as np

from tttlrm_jax.captures.camera_files import OPENCV_FROM_OPENGL, CameraFile
from tttlrm_jax.captures.forms import parts
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.geometry.poses import matrix_from_encoding

PLACES = ("metadata.json", "metadata", "EXR_RGBD/metadata.json")
PICTURES = ("rgb", "rgbd", "images", "color")
PER_FRAME = "perFrameIntrinsicCoeffs"
UNIT = 0.01  # that a quaternion's length may differ from 1


def find(directory: Path) -> list[Path]:
    """The file of an export."""
    return [directory / name for name in PLACES if knows(directory / name)]


def knows(path: Path) -> bool:
    """Whether this is Record3D's file, by the names in it."""
    if path.name not in ("metadata.json", "metadata") or not path.is_file():
        return False
    text = parts.head(path, -1)
    return '"poses"' in text and ('"K"' in text or f'"{PER_FRAME}"' in text)


def read(path: Path) -> CameraFile:
    """Reads an export."""
    document, where = parts.read_object(path), str(path)
    poses = document.get("poses")
    if not isinstance(poses, list) or not poses:
        raise InputError(f"{where}: poses is no list of poses; export again")
    folder = parts.first_with_pictures(path.parent / name for name in PICTURES)
    count = 0 if folder is None else len(parts.pictures_in(folder))
    if count > len(poses):
        raise InputError(f"{where} has {len(poses)} poses for {count} pictures; export again")
    lenses = _lenses(where, document, len(poses))
    size = parts.size_of(where, document.get("w"), document.get("h"))
    cameras = [
        parts.Camera(
            where=f"{where}: frame {number}",
            picture=str(number),
            world_from_camera=_pose(f"{where}: frame {number}", pose) @ OPENCV_FROM_OPENGL,
            lens=parts.fixed(*lens),
            size=size,
        )
        for number, (pose, lens) in enumerate(zip(poses, lenses, strict=True))
    ]
    return parts.capture_file(path, path.parent, cameras, folders=PICTURES)


def _pose(where: str, pose: Any) -> np.ndarray:
    values = parts.numbers(where, "pose", pose if isinstance(pose, list) else [pose], 7)
    length = np.linalg.norm(values[:4])
    if abs(length - 1) > UNIT:
        raise InputError(
            f"{where}: pose={values.tolist()} has a quaternion of length {length:.3g}, not 1; "
            "export again"
        )
    x, y, z, w = values[:4] / length
    return matrix_from_encoding(np.array([*values[4:], w, x, y, z]))


def _lenses(where: str, document: dict[str, Any], count: int) -> np.ndarray:
    """fx, fy, cx, cy [frame, 4]."""
    given = document.get(PER_FRAME)
    if isinstance(given, list) and given:
        if len(given) != count:
            raise InputError(
                f"{where}: {PER_FRAME} has {len(given)} entries for {count} poses; export again"
            )
        rows = [each if isinstance(each, list) else [each] for each in given]
        return np.array([
            parts.numbers(f"{where}: frame {n}", PER_FRAME, row, 4) for n, row in enumerate(rows)
        ])  # fmt: skip
    given = document.get("K")
    matrix = parts.numbers(where, "K", given if isinstance(given, list) else [given], 9)
    matrix = matrix.reshape(3, 3).T
    if (matrix[2] != [0, 0, 1]).any() or matrix[1, 0] != 0:
        raise InputError(
            f"{where}: K={given} is not a matrix of intrinsics column by column; export again"
        )
    parts.refuse_skew(where, matrix[0, 1], matrix[1, 1], 2 * abs(matrix[1, 2]))
    return np.tile([matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2]], (count, 1))
