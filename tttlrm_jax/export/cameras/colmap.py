"""COLMAP's sparse models: `cameras`, `images` and `points3D`, binary and text (layout of 3.x).

Poses are camera from world as quaternion (w, x, y, z) and translation, OpenCV axes, pixel centres
at +0.5: the project's own convention. Cameras that are alike share an entry. Newer versions read
this layout and make a rig of each camera.
"""

import dataclasses
import itertools
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tttlrm_jax.captures.camera_files import Frame
from tttlrm_jax.captures.lenses.distortion import Distortion
from tttlrm_jax.captures.lenses.models import LENS_MODELS
from tttlrm_jax.captures.pictures.images import image_size
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.geometry.poses import encoding_from_matrix, rigid_inverse
from tttlrm_jax.export.cameras.sparse_points import SparsePoints

OBSERVATION = np.dtype([("x", "<f8"), ("y", "<f8"), ("point", "<i8")])
ENDINGS = (".bin", ".txt")


@dataclasses.dataclass(frozen=True)
class Lens:
    """An entry of `cameras`."""

    model: str
    height: int
    width: int
    parameters: tuple[float, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Model:
    """What the files hold; images, points and cameras are numbered from 1 there."""

    lenses: tuple[Lens, ...]
    names: tuple[str, ...]
    cameras: tuple[int, ...]  # of each image, its place in `lenses`
    poses: np.ndarray  # float64 [image, 7]: quaternion, translation
    observations: tuple[np.ndarray, ...]  # OBSERVATION [seen] of each image
    points: SparsePoints
    errors: np.ndarray  # pixels, float64 [point]
    tracks: tuple[np.ndarray, ...]  # int [seen, 2] of each point: image from 1, its observation


def write_colmap(
    binary: Path,
    text: Path,
    names: Sequence[str],
    frames: Sequence[Frame],
    points: SparsePoints | None,
) -> list[Path]:
    """Writes both forms of a model, each into its folder; returns the files.

    Raises InputError for a lens that none of COLMAP's models is.
    """
    model = _model(
        names, frames, points or SparsePoints(np.zeros((0, 3)), np.zeros((0, 3), np.uint8))
    )
    contents = {
        binary / "cameras.bin": _binary_cameras(model),
        binary / "images.bin": _binary_images(model),
        binary / "points3D.bin": _binary_points(model),
        text / "cameras.txt": _text_cameras(model),
        text / "images.txt": _text_images(model),
        text / "points3D.txt": _text_points(model),
    }
    for path, content in contents.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return list(contents)


def _model(names: Sequence[str], frames: Sequence[Frame], points: SparsePoints) -> Model:
    lenses = [_lens(frame) for frame in frames]
    unique = tuple(dict.fromkeys(lenses))
    encoded = encoding_from_matrix(
        np.stack([rigid_inverse(frame.world_from_camera) for frame in frames])
    )
    observations, tracks = _seen(points, len(frames))
    return Model(
        lenses=unique, names=tuple(names), cameras=tuple(unique.index(each) for each in lenses),
        poses=np.roll(encoded, 4, axis=-1), observations=observations, points=points,
        errors=points.errors(frames), tracks=tracks,
    )  # fmt: skip


def _lens(frame: Frame) -> Lens:
    height, width = frame.size or image_size(frame.image_path)
    lens, (fx, fy, cx, cy) = frame.distortion, map(float, frame.intrinsics)
    if not lens:
        return Lens("PINHOLE", height, width, (fx, fy, cx, cy))
    if isinstance(lens, Distortion):
        if lens.k4:
            raise InputError(
                f"camera {frame.name} has the distortion k4={lens.k4:g} of r^8, which no model of "
                "COLMAP has; write nerfstudio's cameras, or undistort the pictures first"
            )
        terms = (lens.k1, lens.k2, lens.p1, lens.p2)
        if lens.k3:
            return Lens("FULL_OPENCV", height, width, (fx, fy, cx, cy, *terms, lens.k3, 0, 0, 0))
        return Lens("OPENCV", height, width, (fx, fy, cx, cy, *terms))
    focal = (fx, fy)
    if LENS_MODELS[lens.model].num_focal == 1:
        if abs(fx - fy) > 1e-9 * fx:
            raise InputError(
                f"camera {frame.name} ({lens.model}) has the focal lengths {fx:g} and {fy:g}, but "
                "the model has one; undistort the pictures first"
            )
        focal = (fx,)
    return Lens(lens.model, height, width, (*focal, cx, cy, *lens.coefficients))


def _seen(points: SparsePoints, images: int) -> tuple[tuple[np.ndarray, ...], tuple]:
    """The observations of each image, and the track of each point."""
    tracks, count = points.tracks, len(points.xyz)
    if tracks is None or not len(tracks.point):
        return (np.empty(0, OBSERVATION),) * images, (np.zeros((0, 2), int),) * count
    order = np.argsort(tracks.view, kind="stable")
    point, view = tracks.point[order], tracks.view[order]
    table = np.empty(len(order), OBSERVATION)
    table["x"], table["y"] = tracks.pixel[order].T
    table["point"] = point + 1
    starts = np.searchsorted(view, np.arange(images + 1))
    place = np.stack([view + 1, np.arange(len(view)) - starts[view]], axis=-1)
    by_point = np.argsort(point, kind="stable")
    ends = np.searchsorted(point[by_point], np.arange(1, count))
    observations = tuple(table[a:b] for a, b in itertools.pairwise(starts))
    return observations, tuple(np.split(place[by_point], ends))


def _binary_cameras(model: Model) -> bytes:
    out = [struct.pack("<Q", len(model.lenses))]
    for number, lens in enumerate(model.lenses, 1):
        kind = LENS_MODELS[lens.model].number
        out.append(struct.pack("<IiQQ", number, kind, lens.width, lens.height))
        out.append(struct.pack(f"<{len(lens.parameters)}d", *lens.parameters))
    return b"".join(out)


def _binary_images(model: Model) -> bytes:
    out = [struct.pack("<Q", len(model.names))]
    images = zip(model.names, model.poses, model.cameras, model.observations, strict=True)
    for number, (name, pose, camera, seen) in enumerate(images, 1):
        out.append(struct.pack("<I7dI", number, *pose, camera + 1) + name.encode() + b"\0")
        out.append(struct.pack("<Q", len(seen)) + seen.tobytes())
    return b"".join(out)


def _binary_points(model: Model) -> bytes:
    points, out = model.points, [struct.pack("<Q", len(model.points.xyz))]
    rows = zip(points.xyz.tolist(), points.rgb.tolist(), model.errors, model.tracks, strict=True)
    for number, (place, colour, error, track) in enumerate(rows, 1):
        out.append(struct.pack("<Q3d3BdQ", number, *place, *colour, error, len(track)))
        out.append(track.astype("<u4").tobytes())
    return b"".join(out)


def _text_cameras(model: Model) -> bytes:
    rows = [
        (number, lens.model, lens.width, lens.height, *lens.parameters)
        for number, lens in enumerate(model.lenses, 1)
    ]
    return _text("CAMERA_ID, MODEL, WIDTH, HEIGHT, PARAMS[]", rows)


def _text_images(model: Model) -> bytes:
    rows: list[tuple] = []
    images = zip(model.names, model.poses, model.cameras, model.observations, strict=True)
    for number, (name, pose, camera, seen) in enumerate(images, 1):
        rows += [(number, *pose.tolist(), camera + 1, name)]
        rows += [tuple(value for each in seen.tolist() for value in each)]
    said = "IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME, then X, Y, POINT3D_ID of each"
    return _text(said, rows)


def _text_points(model: Model) -> bytes:
    points = model.points
    rows = [
        (number, *place, *colour, float(error), *track.ravel().tolist())
        for number, (place, colour, error, track) in enumerate(
            zip(points.xyz.tolist(), points.rgb.tolist(), model.errors, model.tracks, strict=True),
            1,
        )
    ]
    return _text("POINT3D_ID, X, Y, Z, R, G, B, ERROR, then IMAGE_ID, POINT2D_IDX of each", rows)


def _text(said: str, rows: Sequence[tuple]) -> bytes:
    """A line for each row; floats with all the digits that give them back."""
    lines = (" ".join(map(str, row)) for row in rows)
    return "".join(f"{line}\n" for line in (f"# {said}", *lines)).encode()
