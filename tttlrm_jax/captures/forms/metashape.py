"""Agisoft Metashape's cameras: the XML file of "Export Cameras".

`transform` of a camera has 16 numbers, row by row, of camera to chunk in OpenCV axes (x right, y
down, looking along +z), in the chunk's own frame and unit; `transform` of the chunk, which leads
from there to the Earth, is not applied. A `sensor` has its `resolution` and a `calibration`, in
pixels: f, cx and cy from the middle of the picture, b1 (added to f for x), b2 (skew), k1 to k4
(r^2 to r^8) and p1, p2. Metashape's p1 is OpenCV's p2 and the other way round.

Source: Metashape's user manual, appendix "Camera models": x' = x (1 + k1 r^2 + ...) + p1 (r^2 + 2
x^2) + 2 p2 x y, u = w / 2 + cx + x' (f + b1) + y' b2. Pictures are found by the camera's label,
with or without a suffix. Where cameras belong to several components, each with a frame of its own,
the largest one is read; so it is of several chunks.
"""

import collections
from pathlib import Path
from xml.etree.ElementTree import Element

from tttlrm_jax.captures.camera_files import CameraFile
from tttlrm_jax.captures.forms import parts
from tttlrm_jax.captures.lenses.distortion import Distortion
from tttlrm_jax.core.errors import InputError

VALUES = ("cx", "cy", "b1", "b2", "k1", "k2", "k3", "k4", "p1", "p2", "p3", "p4")
DISABLED = ("0", "false")  # values of `enabled`
_SensorLens = tuple[parts.Lens, tuple[int, int], Distortion]  # the size is height, width


def find(directory: Path) -> list[Path]:
    """XML files with a chunk."""
    return [path for path in parts.files_in(directory, ".xml") if knows(path)]


def knows(path: Path) -> bool:
    """Whether this is a document with a chunk."""
    if path.suffix.lower() != ".xml" or not path.is_file():
        return False
    text = parts.head(path)
    return "<document" in text and "<chunk" in text


def read(path: Path) -> CameraFile:
    """Reads the cameras with a pose; others are named in a note."""
    chunks = list(parts.read_xml(path).iterfind("chunk"))
    if not chunks:
        raise InputError(f"{path} has no chunk; export the cameras again")
    chunk = max(chunks, key=lambda each: sum(map(_is_placed, each.iter("camera"))))
    sensors = {sensor.get("id"): sensor for sensor in chunk.iterfind("sensors/sensor")}
    cameras = list(chunk.iter("camera"))
    posed = [each for each in cameras if _is_placed(each)]
    unposed = [each.get("label", "?") for each in cameras if not _is_placed(each)]
    notes = parts.left_out("cameras are not aligned or disabled", unposed, len(cameras))
    if len(chunks) > 1:
        notes.append(f"of {len(chunks)} chunks {chunk.get('label')} is read, with {len(posed)} "
                     "cameras: each chunk has a frame of its own")  # fmt: skip
    by_component = collections.Counter(each.get("component_id") for each in posed)
    if len(by_component) > 1:
        largest, count = by_component.most_common(1)[0]
        notes.append(f"component {largest} of {len(by_component)} is read, with {count} cameras of "
                     f"{len(posed)}: each component has a frame of its own")  # fmt: skip
        posed = [each for each in posed if each.get("component_id") == largest]
    if chunk.find("transform") is not None:
        notes.append("cameras are in the chunk's own frame and unit: its transform is not applied")
    lenses = {
        key: _lens(f"{path}: sensor {key}", sensors[key]) for key in _used(path, posed, sensors)
    }
    cameras = [_camera(path, each, lenses[each.get("sensor_id")]) for each in posed]
    return parts.capture_file(path, path.parent, cameras, notes=notes)


def _is_placed(camera: Element) -> bool:
    return camera.find("transform") is not None and camera.get("enabled") not in DISABLED


def _used(
    path: Path, cameras: list[Element], sensors: dict[str | None, Element]
) -> set[str | None]:
    """The sensors of these cameras, all of them listed."""
    for camera in cameras:
        if camera.get("sensor_id") not in sensors:
            raise InputError(
                f"{path}: camera {camera.get('label')} has the sensor {camera.get('sensor_id')}, "
                "which is not listed; export again"
            )
    return {camera.get("sensor_id") for camera in cameras}


def _camera(path: Path, camera: Element, lens: _SensorLens) -> parts.Camera:
    label = camera.get("label", "")
    where = f"{path}: camera {label}"
    values = parts.numbers(where, "transform", (camera.findtext("transform") or "").split(), 16)
    pose = parts.rigid(where, "transform", values.reshape(4, 4))
    return parts.Camera(where, label, pose, *lens)


def _lens(where: str, sensor: Element) -> _SensorLens:
    kind = sensor.get("type", "frame")
    if kind != "frame":
        raise InputError(
            f"{where} is of type {kind}, not a frame camera; export undistorted pictures"
        )
    found = sensor.findall("calibration")
    calibration = next((each for each in found if each.get("class") == "adjusted"), None)
    calibration = found[0] if calibration is None and found else calibration
    resolution = sensor.find("resolution")
    if calibration is None or resolution is None or calibration.find("f") is None:
        raise InputError(
            f"{where} has no resolution or no calibration with f; align cameras and export again"
        )
    size = parts.size_of(where, resolution.get("width"), resolution.get("height"))
    (focal,) = parts.numbers(where, "f", [calibration.findtext("f")], 1)
    texts = [calibration.findtext(name) or "0" for name in VALUES]
    values = dict(zip(VALUES, parts.numbers(where, "calibration", texts), strict=True))
    if values["p3"] or values["p4"]:
        raise InputError(f"{where} has p3 or p4, which are not read; export undistorted pictures")
    parts.refuse_skew(where, values["b2"], abs(focal), size[0])
    lens = parts.centred(focal + values["b1"], focal, values["cx"], values["cy"])
    radial = {name: float(values[name]) for name in ("k1", "k2", "k3", "k4")}
    return lens, size, Distortion(**radial, p1=float(values["p2"]), p2=float(values["p1"]))
