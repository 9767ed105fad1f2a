"""RealityCapture's and RealityScan's metadata: a file NAME.xmp beside each picture NAME.jpg.

`Rotation` has nine numbers, row by row, of the rotation world to camera in OpenCV axes (x right, y
down, looking along +z); `Position` is the centre of the camera. `FocalLength35mm` is the focal
length of a film 36 mm wide: in pixels it is that over 36 of the picture's larger side, times
`AspectRatio` for fy. `PrincipalPointU` and `PrincipalPointV` are the offset of the principal point
from the middle, in parts of the larger side. `DistortionCoeficients` (so spelled) are k1, k2, k3,
k4, t1, t2: Brown's radial coefficients (r^2 to r^8) on the plane z = 1, then the tangential ones
in OpenCV's order (p1, p2). All are attributes or elements in the name space xcr.

Source: the maker's page "RealityCapture XMP Camera Math"; for t1 and t2, whose order it leaves
open, nerfstudio's importer of the CSV form.
"""

from pathlib import Path

import numpy as np

from tttlrm_jax.captures.camera_files import CameraFile
from tttlrm_jax.captures.forms import parts
from tttlrm_jax.captures.lenses.distortion import Distortion
from tttlrm_jax.core.errors import InputError

SPACE = "capturingreality"  # in the name of the name space, whose version changes
BROWN = ("brown3", "brown4", "brown3t2", "brown4t2")  # models of DistortionModel that are read
UNDISTORTED = ("perspective", "division")  # those with coefficients of 0 only
LARGEST = 2**16  # bytes, of what else the file says before
LOOKED_INTO = 8  # files that must tell whether a folder is of this form


def find(directory: Path) -> list[Path]:
    """Folders of pictures with such files."""
    folders = [directory / name for name in parts.PICTURE_FOLDERS]
    return [folder for folder in folders if _has_cameras(folder)]


def knows(path: Path) -> bool:
    """Whether this is a folder of pictures with such files, which are read together."""
    return path.is_dir() and _has_cameras(path)


def _has_cameras(folder: Path) -> bool:
    found = parts.files_in(folder, ".xmp")[:LOOKED_INTO]
    texts = (parts.head(path, LARGEST) for path in found)
    return any(SPACE in text and "Position" in text for text in texts)


def read(path: Path) -> CameraFile:
    """Reads the files of a folder; one without a position is of a picture that is not aligned."""
    values = {each: _values(each) for each in parts.files_in(path, ".xmp")}
    cameras = [_camera(each, found) for each, found in values.items() if "Position" in found]
    inner = path.resolve().name in parts.PICTURE_FOLDERS
    root, folder = (path.parent, path.name) if inner else (path, "")
    return parts.capture_file(path, root, cameras, folders=(folder,))


def _values(path: Path) -> dict[str, str]:
    """Attributes and elements in the maker's name space, by name."""
    out = {}
    for element in parts.read_xml(path).iter():
        given = [*element.attrib.items(), (element.tag, element.text or "")]
        for key, text in given:
            space, _, name = str(key).rpartition("}")
            if SPACE in space and text.strip():
                out[name] = text.strip()
    return out


def _camera(path: Path, values: dict[str, str]) -> parts.Camera:
    where = str(path)

    def number(key: str, default: str) -> float:
        return float(parts.numbers(where, key, [values.get(key, default)], 1)[0])

    for key in ("Rotation", "FocalLength35mm"):
        if key not in values:
            raise InputError(f"{where} has a Position but no {key}; export the metadata again")
    if number("Skew", "0") != 0:
        raise InputError(f"{where} has Skew={values['Skew']}, which no lens here has; export 0")
    if "RigInstance" in values and values.get("Coordinates") == "relative":
        raise InputError(f"{where} has a pose relative to its rig; export absolute coordinates")
    rotation = parts.numbers(where, "Rotation", values["Rotation"].split(), 9).reshape(3, 3)
    centre = parts.numbers(where, "Position", values["Position"].split(), 3)
    camera_from_world = parts.rigid(
        where, "Rotation", np.column_stack([rotation, -rotation @ centre])
    )
    return parts.Camera(
        where=where,
        picture=path.stem,
        world_from_camera=np.linalg.inv(camera_from_world),
        lens=parts.film(
            number("FocalLength35mm", ""),
            number("PrincipalPointU", "0"),
            number("PrincipalPointV", "0"),
            number("AspectRatio", "1"),
        ),
        distortion=_distortion(where, values),
    )


def _distortion(where: str, values: dict[str, str]) -> Distortion:
    model = values.get("DistortionModel", "perspective")
    given = values.get("DistortionCoeficients", "0 0 0 0 0 0").split()
    coefficients = parts.numbers(where, "DistortionCoeficients", given, 6)
    spherical = any("equirect" in value.lower() for value in values.values())
    known = model in BROWN or (model in UNDISTORTED and not coefficients.any())
    if spherical or not known:
        raise InputError(
            f"{where} has the lens {'equirectangular' if spherical else model}, which is none of "
            f"{', '.join(BROWN)} or without distortion; export undistorted pictures"
        )
    k1, k2, k3, k4, p1, p2 = map(float, coefficients)
    return Distortion(k1=k1, k2=k2, k3=k3, k4=k4, p1=p1, p2=p2)
