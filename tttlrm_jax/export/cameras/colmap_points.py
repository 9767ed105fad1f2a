"""The triangulated points of a capture, for the files of its cameras."""

import numpy as np

from tttlrm_jax.captures.capture import Capture
from tttlrm_jax.captures.colmap.tracks import read_seen_points
from tttlrm_jax.export.cameras.sparse_points import SparsePoints, Tracks


def points_of(capture: Capture) -> SparsePoints | None:
    """With their observations in the frames of the capture, where it is a model of COLMAP; None
    where it has no points. Raises InputError for a broken file."""
    file = capture.points_file
    if file is None or file.stem != "points3D" or capture.points_frame is not None:
        found = capture.points()
        if found is None:
            return None
        return SparsePoints(found[0], np.rint(255 * found[1]).astype(np.uint8))
    seen = read_seen_points(file)
    place = {frame.name: number for number, frame in enumerate(capture.frames)}
    view = np.array([place.get(name, -1) for name in seen.names], np.int64)
    # pictures, and intrinsics with them, may be a part of the model's size
    scale = np.array([
        capture.image_size(place[name])[1] / width if name in place else 1.0
        for name, width in zip(seen.names, seen.widths, strict=True)
    ])  # fmt: skip
    kept = view[seen.image] >= 0
    image = seen.image[kept]
    tracks = Tracks(seen.point[kept], view[image], seen.pixel[kept] * scale[image][:, None])
    return SparsePoints(seen.xyz, seen.rgb, tracks)
