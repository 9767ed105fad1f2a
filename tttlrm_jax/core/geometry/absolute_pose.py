"""The camera of pixels whose points are known (PnP): RANSAC and refinement by pycolmap."""

from typing import Any, NamedTuple

import numpy as np

from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.geometry.poses import pose_problem, rigid_inverse

MAX_ERROR = 0.01  # of the picture's longer side: how far from its pixel an inlier may appear
FEWEST = 12  # pixels that agree; four of them fit some camera whatever they show


class FoundPose(NamedTuple):
    """A camera, and the share of the pixels that agree with it."""

    world_from_camera: np.ndarray  # float64 [4, 4], OpenCV axes
    inliers: float


def pose_from_points(
    pixels: np.ndarray, points: np.ndarray, lens: np.ndarray, size: tuple[int, int]
) -> FoundPose | None:
    """The camera that sees world `points` [n, 3] at `pixels` [n, 2] (x, y, middles at +0.5).

    `lens` [4] is fx, fy, cx, cy of pictures of `size` (height, width). Entries that are not finite
    are left out. None where no camera fits `FEWEST` of the rest; the same input gives the same
    camera. Raises InputError where pycolmap is not installed.
    """
    pycolmap = check_pycolmap()
    known = np.isfinite(points).all(axis=-1) & np.isfinite(pixels).all(axis=-1)
    if known.sum() < FEWEST or not np.isfinite(lens).all() or min(lens[:2]) <= 0:
        return None
    camera = pycolmap.Camera(
        model="PINHOLE", width=size[1], height=size[0], params=np.asarray(lens, np.float64)
    )
    options = pycolmap.AbsolutePoseEstimationOptions()
    options.ransac.max_error = MAX_ERROR * max(size)
    options.ransac.random_seed = 0
    found = pycolmap.estimate_and_refine_absolute_pose(
        np.asarray(pixels, np.float64)[known], np.asarray(points, np.float64)[known], camera,
        options,
    )  # fmt: skip
    if found is None or found["num_inliers"] < FEWEST:
        return None
    camera_from_world = np.eye(4)
    camera_from_world[:3] = found["cam_from_world"].matrix()
    if pose_problem(camera_from_world) is not None:
        return None
    return FoundPose(rigid_inverse(camera_from_world), found["num_inliers"] / int(known.sum()))


def check_pycolmap() -> Any:
    """The module pycolmap. Raises InputError where it is not installed."""
    try:
        import pycolmap  # pyright: ignore[reportMissingImports] (an extra, not quick to import)
    except ImportError:
        raise InputError.of(
            "poses", "pnp", "needs pycolmap, which is not installed",
            'pip install "tttlrm-jax[sfm]", or take the poses of the regression',
        ) from None  # fmt: skip
    return pycolmap
