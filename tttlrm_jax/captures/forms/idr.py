"""IDR's and NeuS's form of DTU: `cameras.npz` or `cameras_sphere.npz` beside
`image/`.

`world_mat_N` is a 4x4 matrix whose first three rows project points of the world to pixels of the
N-th picture, in plain order of names: K [R | t], up to a factor; axes are OpenCV's. `scale_mat_N`,
which takes a unit sphere into the world, is not applied: cameras stay in the world's frame and
unit.

Source: the files of IDR (Yariv 2020), whose own code splits the matrix in the same way. Assumed:
pixel centres at +0.5, as everywhere here; those programs sample rays at whole pixels, half a pixel
beside. Masks lie in `mask/`.
"""

from pathlib import Path

import numpy as np

from tttlrm_jax.captures.camera_files import CameraFile
from tttlrm_jax.captures.forms import parts
from tttlrm_jax.core.errors import InputError

NAMES = ("cameras.npz", "cameras_sphere.npz", "cameras_large.npz")
FOLDERS = ("image", "images", "rgb", "")
MATRIX = "world_mat_"
SINGULAR = 1e-12  # smallest over largest singular value


def find(directory: Path) -> list[Path]:
    """The files of cameras that are there; they differ in `scale_mat` only."""
    return [directory / name for name in NAMES if (directory / name).is_file()]


def knows(path: Path) -> bool:
    """Whether this is such a file, by its name."""
    return path.name in NAMES and path.is_file()


def read(path: Path) -> CameraFile:
    """Reads `world_mat_0` to the last; there must be as many pictures."""
    arrays = parts.read_arrays(path)
    count = sum(name.startswith(MATRIX) and name[len(MATRIX) :].isdecimal() for name in arrays)
    lacking = [n for n in range(count) if f"{MATRIX}{n}" not in arrays]
    if not count or lacking:
        raise InputError(
            f"{path} has no {MATRIX}{lacking[0] if lacking else 0}; give a matrix for each picture"
        )
    folders = [path.parent / name for name in FOLDERS]
    folder = parts.first_with_pictures(folders) or folders[0]
    pictures, notes = parts.in_plain_order(path, folder, count)
    cameras = []
    for number, picture in enumerate(pictures):
        name = f"{MATRIX}{number}"
        matrix = parts.read_array(path, arrays[name], name)
        lens, pose = split(f"{path}: {name}", matrix)
        cameras.append(parts.Camera(f"{path}: {name}", picture.name, pose, parts.fixed(*lens)))
    if any(name.startswith("scale_mat_") for name in arrays):
        notes.append(
            f"cameras are in the frame of world_mat: scale_mat of {path.name} is not applied"
        )
    inner = str(folder.relative_to(path.parent))
    return parts.capture_file(path, path.parent, cameras, folders=(inner,), notes=notes)


def split(where: str, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Intrinsics [4] and world_from_camera [4, 4] of a projection [3 or 4, 4]."""
    if matrix.shape not in ((4, 4), (3, 4)) or not np.isfinite(matrix).all():
        raise InputError(
            f"{where} has shape {matrix.shape} or entries that are not finite; save 4x4"
        )
    import scipy.linalg  # takes a tenth of a second

    values = np.linalg.svd(matrix[:3, :3], compute_uv=False)
    if values[2] <= SINGULAR * values[0]:
        raise InputError(f"{where} is singular, no projection of a camera; save it again")
    projection = matrix[:3] / values[0]
    projection *= np.sign(np.linalg.det(projection[:, :3]))
    upper, rotation = scipy.linalg.rq(projection[:, :3])
    signs = np.sign(np.diag(upper))
    upper, rotation = upper * signs, signs[:, None] * rotation
    pose = np.eye(4)
    pose[:3, :3] = rotation.T
    pose[:3, 3] = -np.linalg.solve(projection[:, :3], projection[:, 3])
    upper = upper / upper[2, 2]
    parts.refuse_skew(where, upper[0, 1], upper[1, 1], 2 * abs(upper[1, 2]))
    lens = np.array([upper[0, 0], upper[1, 1], upper[0, 2], upper[1, 2]])
    return lens, parts.rigid(where, "its pose", pose)
