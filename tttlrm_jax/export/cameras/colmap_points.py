"""The triangulated points of a capture, for the files of its cameras."""

from collections.abc import Sequence

import numpy as np

from tttlrm_jax.captures.camera_files import Frame
from tttlrm_jax.captures.capture import Capture
from tttlrm_jax.captures.colmap.tracks import read_seen_points
from tttlrm_jax.export.cameras.sparse_points import SparsePoints, Tracks


def points_of(capture: Capture) -> SparsePoints | None:
    """With their observations in the frames of the capture, where it is a model of COLMAP; None
    where it has no points. Raises InputError for a broken file."""
    path, moved = capture.points_file, capture.points_frame is not None
    if path is None or path.stem != "points3D" or moved:
        found = capture.points()
        if found is None:
            return None
        return SparsePoints(found[0], np.rint(255 * found[1]).astype(np.uint8))
    seen = read_seen_points(path)
    place = {frame.name: number for number, frame in enumerate(capture.frames)}
    view = np.array([place.get(name, -1) for name in seen.names], np.int64)
    scale = np.array([
        _width(capture.frames, place.get(name)) / width if name in place else 1.0
        for name, width in zip(seen.names, seen.widths, strict=True)
    ])  # fmt: skip
    kept = view[seen.image] >= 0
    image = seen.image[kept]
    tracks = Tracks(seen.point[kept], view[image], seen.pixel[kept] * scale[image][:, None])
    return SparsePoints(seen.xyz, seen.rgb, tracks)


def _width(frames: Sequence[Frame], number: int | None) -> int:
    """Of a frame, which is that of its intrinsics: pictures may be a part of the model's size."""
    assert number is not None
    size = frames[number].size
    assert size is not None, "frames of a model state their size"
    return size[1]
