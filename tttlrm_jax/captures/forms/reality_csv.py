"""RealityCapture's and RealityScan's "Internal/External camera parameters": one CSV file.

A line `#name,x,y,alt,heading,pitch,roll,f,px,py,k1,k2,k3,k4,t1,t2`, then one for each picture;
columns behind f may be absent and are 0 then. x, y, alt are the centre of the camera. Angles are
in degrees: at 0 the camera looks straight down with the top of the picture towards +y; camera to
world, in OpenGL axes, is Rz(-heading) Rx(pitch) Ry(roll), so that heading turns clockwise seen
from above. f is the focal length of a film 36 mm wide: in pixels it is f / 36 of the picture's
larger side. px and py are the offset of the principal point from the middle, in parts of the
larger side. k1 to k4 are Brown's radial coefficients (r^2 to r^8) on the plane z = 1, t1 and t2
the tangential ones in OpenCV's order (p1, p2).

Source: nerfstudio's importer since its pull request 3131, which agrees with Brush's; the order of
t1, t2 is theirs and not documented by the maker. Assumed: `yaw`, as some versions call the column,
is `heading`.
"""

import csv
from pathlib import Path

import numpy as np

from tttlrm_jax.captures.camera_files import OPENCV_FROM_OPENGL, CameraFile
from tttlrm_jax.captures.forms import parts
from tttlrm_jax.captures.lenses.distortion import Distortion
from tttlrm_jax.core.errors import InputError

NEEDED = ("x", "y", "alt", "heading", "pitch", "roll", "f")
OPTIONAL = ("px", "py", "k1", "k2", "k3", "k4", "t1", "t2")


def find(directory: Path) -> list[Path]:
    """CSV files that begin with the names of the columns."""
    return [path for path in parts.files_in(directory, ".csv") if knows(path)]


def knows(path: Path) -> bool:
    """Whether the first line names a picture and the position of its camera."""
    if path.suffix.lower() != ".csv" or not path.is_file():
        return False
    lines = [line for line in parts.head(path).splitlines() if not line.startswith("#cameras")]
    first = lines[0].lower().replace(" ", "") if lines else ""
    has_all = set(NEEDED) - {"heading"} <= set(first.split(","))
    return first.startswith("#name,x,y,") or (first.startswith("name,") and has_all)


def read(path: Path) -> CameraFile:
    """Reads the file; pictures lie beside it or in a folder of pictures."""
    columns, rows = _table(path)
    cameras = [_camera(path, row) for row in rows]
    notes = [f"{path.name}: the column yaw is taken as heading"] if "yaw" in columns else []
    return parts.capture_file(path, path.parent, cameras, notes=notes)


def _table(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Names of the columns as in the file, and rows with `yaw` called `heading`."""
    lines = [line for line in parts.read_text(path).split("\n") if line.strip()]
    lines = [line for line in lines if not line.startswith("#cameras")]
    try:
        header, *table = list(csv.reader(lines, skipinitialspace=True))
    except (csv.Error, ValueError) as error:
        raise InputError(f"{path} is not CSV ({error}); export it again") from None
    columns = [name.strip().lstrip("#").lower() for name in header]
    known = ["heading" if name == "yaw" else name for name in columns]
    lacking = [name for name in ("name", *NEEDED) if name not in known]
    if lacking:
        raise InputError(
            f"{path} has no column {', '.join(lacking)}; export Internal/External camera parameters"
        )
    for number, row in enumerate(table, 1):
        if len(row) != len(columns):
            raise InputError(
                f"{path}: row {number} has {len(row)} entries for {len(columns)} columns; export "
                "it again"
            )
    return columns, [dict(zip(known, row, strict=True)) for row in table]


def _camera(path: Path, row: dict[str, str]) -> parts.Camera:
    from scipy.spatial.transform import Rotation  # takes a tenth of a second

    where = f"{path}: {row['name']}"
    x, y, z, heading, pitch, roll, focal = parts.numbers(
        where, ", ".join(NEEDED), [row[name] for name in NEEDED], len(NEEDED)
    )
    rest = parts.numbers(where, ", ".join(OPTIONAL), [row.get(name, "0") for name in OPTIONAL])
    px, py, k1, k2, k3, k4, p1, p2 = map(float, rest)
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler("ZXY", [-heading, pitch, roll], degrees=True).as_matrix()
    pose[:3, 3] = x, y, z
    return parts.Camera(
        where=where,
        picture=row["name"],
        world_from_camera=pose @ OPENCV_FROM_OPENGL,
        lens=parts.film(focal, px, py),
        distortion=Distortion(k1=k1, k2=k2, k3=k3, k4=k4, p1=p1, p2=p2),
    )
