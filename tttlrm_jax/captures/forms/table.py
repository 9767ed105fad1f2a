"""The table of forms: how a capture's cameras are found in a directory and read.

The first form that a directory holds is read, and a note names the others. A file that is given
itself is read in the form that knows it.
"""

import contextlib
import dataclasses
from collections.abc import Callable
from pathlib import Path

from tttlrm_jax.captures.camera_files import SPLIT_FILES, CameraFile, read_camera_file
from tttlrm_jax.captures.colmap.models import COLMAP_FILES, find_model
from tttlrm_jax.captures.colmap.reader import read_colmap
from tttlrm_jax.captures.forms import (
    bundler,
    idr,
    llff,
    metashape,
    polycam,
    realestate,
    reality_csv,
    reality_xmp,
    record3d,
)
from tttlrm_jax.captures.pictures.paths import INNER_FOLDERS
from tttlrm_jax.core.errors import InputError, listed
from tttlrm_jax.core.files.natural_order import natural_order


@dataclasses.dataclass(frozen=True)
class Form:
    """One way to store cameras.

    `find` gives the files (or folders, of forms with a file for each camera) in a directory, the
    one to read first; `knows` says whether a path is one of them; `read` raises InputError.
    """

    name: str  # as messages say it
    find: Callable[[Path], list[Path]]
    knows: Callable[[Path], bool]
    read: Callable[[Path], CameraFile]


def _json(name: str, files: tuple[str, ...]) -> Form:
    return Form(
        name,
        lambda directory: [directory / file for file in files if (directory / file).is_file()],
        lambda path: path.name in files and path.is_file(),
        read_camera_file,
    )


def _models(directory: Path) -> list[Path]:
    found = find_model(directory)
    return [] if found is None else [found]


def _is_model(path: Path) -> bool:
    return path.name in COLMAP_FILES and path.is_file()


def _form(name: str, module) -> Form:
    return Form(name, module.find, module.knows, module.read)


FORMS = (
    _json("opencv_cameras.json", ("opencv_cameras.json",)),
    _json("transforms.json", ("transforms.json",)),
    _json("Blender's transforms_train.json", SPLIT_FILES),
    Form("a COLMAP model (cameras.bin or cameras.txt)", _models, _is_model, read_colmap),
    _form("Polycam's keyframes/cameras", polycam),
    _form("Record3D's metadata.json", record3d),
    _form("RealityCapture's CSV", reality_csv),
    _form("RealityCapture's XMP", reality_xmp),
    _form("Metashape's XML", metashape),
    _form("Bundler's bundle.out", bundler),
    _form("LLFF's poses_bounds.npy", llff),
    _form("IDR's cameras.npz", idr),
    _form("RealEstate10K's clip", realestate),
)
ARCHIVES = (".r3d", ".zip", ".tar", ".gz", ".7z")  # Record3D's and Polycam's, as they are sent
# what else may be done with pictures
OTHERWISE = (
    ", have the cameras found (--poses sfm, open_capture(..., poses='sfm')), or give pictures "
    "without cameras to --model ttt3r"
)
KNOWN = " or ".join(form.name for form in FORMS)


def form_of(path: Path) -> Form | None:
    """The form that knows this file or folder of camera files."""
    return next((form for form in FORMS if form.knows(path)), None)


def find_camera_file(path: Path, field: str = "capture") -> Path:
    """The file of cameras in a directory, or the folder of forms with a file for each camera.

    A file that is given itself is given back. Raises InputError where there is none.
    """
    if path.is_file() and form_of(path) is not None:
        return path
    if path.is_file() and path.suffix.lower() in ARCHIVES:
        raise InputError(
            f"{field}={path} is an archive; unpack it (.r3d is .zip) and name its folder"
        )
    alone = OTHERWISE if field == "capture" else ""
    if not path.is_dir():
        raise InputError(
            f"{field}={path} is not a directory; name the one that holds {KNOWN}{alone}"
        )
    found = _first_in(path)
    if found is None:
        remedy = f"export the cameras to one of them{alone}"
        if inner := _first_capture(path):
            remedy = f"it is a folder of captures: name one of them, e.g. {inner}"
        raise InputError(f"{field}={path} holds no {KNOWN}; {remedy}")
    return found


def holds_cameras(directory: Path) -> bool:
    """Whether a directory is a capture of some form."""
    return _first_in(directory) is not None


def _first_in(directory: Path) -> Path | None:
    places = _places(directory)
    return next((path for place in places for form in FORMS for path in form.find(place)[:1]), None)


def _places(directory: Path) -> list[Path]:
    """The directory, and folders in it that hold a capture where it does not itself."""
    return [directory, *(directory / name for name in INNER_FOLDERS if (directory / name).is_dir())]


def _first_capture(folder: Path) -> Path | None:
    """The first capture inside a folder, among what may be read."""
    for each in natural_order(folder.iterdir()):
        with contextlib.suppress(PermissionError):
            if each.is_dir() and _first_in(each):
                return each
    return None


def read_cameras_at(path: Path) -> CameraFile:
    """Reads what `find_camera_file` has found, in the form that knows it."""
    form = form_of(path)
    if form is None:
        raise InputError(f"{path} is none of {KNOWN}; name one of them")
    return form.read(path)


def other_forms_note(directory: Path, taken: Path) -> list[str]:
    """What to say of other cameras in a directory from which `taken` was read."""
    if directory == taken or not directory.is_dir():
        return []
    own = any(taken in form.find(directory) for form in FORMS)
    places = (directory,) if own else _places(directory)[1:]
    found = [path for place in places for form in FORMS for path in _others(form, place, taken)]
    if not found:
        return []
    names = listed([_inside(path, directory) for path in found], 4)
    verb = "was" if len(found) == 1 else "were"
    return [f"cameras are those of {_inside(taken, directory)}; {names} {verb} not read"]


def _others(form: Form, directory: Path, taken: Path) -> list[Path]:
    """Of another form its first file, of that of `taken` all others but those it names itself."""
    if not form.knows(taken):
        return form.find(directory)[:1]
    return [] if taken.name in SPLIT_FILES else [p for p in form.find(directory) if p != taken]


def _inside(path: Path, directory: Path) -> str:
    return str(path.relative_to(directory)) if path.is_relative_to(directory) else str(path)
