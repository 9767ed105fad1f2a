"""Polycam's raw export: `keyframes/cameras/TIME.json` beside `keyframes/images/TIME.jpg`.

Each file has `fx`, `fy`, `cx`, `cy` in pixels of a picture of `width` x `height`, and `t_00` to
`t_23`, the first three rows of the camera-to-world matrix in metres. Axes are ARKit's, which are
OpenGL's: the camera looks along -z with y up in the picture as stored; the world has y up and
stays so. Where Polycam has optimised the poses, `corrected_cameras` and `corrected_images` are
there as well, without distortion, and are read in place of the first.

Source: Polycam's export "raw data" in developer mode, as nerfstudio's converter reads it (which
turns the world to z up afterwards; that is not done here).
"""

from pathlib import Path

import numpy as np

from tttlrm_jax.captures.camera_files import OPENCV_FROM_OPENGL, CameraFile
from tttlrm_jax.captures.forms import parts
from tttlrm_jax.core.errors import InputError

FOLDERS = ("corrected_cameras", "cameras")  # the first one is better
POSE = [f"t_{row}{column}" for row in range(3) for column in range(4)]
LENS = ("fx", "fy", "cx", "cy")


def find(directory: Path) -> list[Path]:
    """The folders of camera files in an export, in its `keyframes`, or the folder itself."""
    places = [directory / "keyframes" / name for name in FOLDERS]
    places += [directory / name for name in FOLDERS]
    return [place for place in (*places, directory) if knows(place)]


def knows(path: Path) -> bool:
    """Whether a folder holds camera files of Polycam."""
    if path.name not in FOLDERS or not path.is_dir():
        return False
    found = parts.files_in(path, ".json")
    return bool(found) and '"t_00"' in parts.head(found[0])


def read(path: Path) -> CameraFile:
    """Reads a folder of camera files."""
    cameras = [_camera(each) for each in parts.files_in(path, ".json")]
    folder, keyframes = path.name.replace("cameras", "images"), path.parent
    root = keyframes.parent if keyframes.name == "keyframes" else keyframes
    inner = folder if root == keyframes else f"{keyframes.name}/{folder}"
    return parts.capture_file(path, root, cameras, folders=(inner,))


def _camera(path: Path) -> parts.Camera:
    document, where = parts.read_object(path), str(path)
    lacking = [key for key in (*LENS, "width", "height", *POSE) if key not in document]
    if lacking:
        raise InputError(f"{where} lacks {', '.join(lacking)}; export the raw data again")
    pose = parts.numbers(where, "t_00 to t_23", [document[key] for key in POSE], 12)
    lens = parts.numbers(where, ", ".join(LENS), [document[key] for key in LENS], 4)
    return parts.Camera(
        where=where,
        picture=path.stem,
        world_from_camera=parts.rigid(where, "t_00 to t_23", np.reshape(pose, (3, 4)))
        @ OPENCV_FROM_OPENGL,
        lens=parts.fixed(*lens),
        size=parts.size_of(where, document["width"], document["height"]),
    )
