"""Forms in which files write a pose: 4x4, without the last row, as one list, with long axes."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tttlrm_jax.core.geometry.poses import FARTHEST, RIGID_TOLERANCE

SCALES = (1e-6, 1e6)  # of axes that still have a direction


def square_matrix(pose: np.ndarray) -> np.ndarray:
    """The [4, 4] matrix of one that is [4, 4], [3, 4], [16] or [12] by rows; others as they are."""
    if pose.shape in ((16,), (12,)):
        pose = pose.reshape(-1, 4)
    if pose.shape == (3, 4):
        return np.vstack([pose, [0.0, 0.0, 0.0, 1.0]])
    return pose


def unscaled_pose(pose: np.ndarray) -> tuple[np.ndarray, float]:
    """A camera to world [4, 4] with axes of length 1, and how long they were.

    Only axes of one length that stand at right angles are made so; any other matrix is given back
    with the length 1.
    """
    if pose.shape != (4, 4) or not (np.abs(pose) <= FARTHEST).all():
        return pose, 1.0
    gram = pose[:3, :3] @ pose[:3, :3].T
    if np.abs(gram - np.eye(3)).max() <= RIGID_TOLERANCE:
        return pose, 1.0
    length = float(np.sqrt(np.trace(gram) / 3))
    skew = np.abs(gram - length**2 * np.eye(3)).max()
    if not SCALES[0] <= length <= SCALES[1] or skew > RIGID_TOLERANCE * length**2:
        return pose, 1.0
    out = pose.copy()
    out[:3, :3] /= length
    return out, length


def scale_notes(poses: Sequence[Any]) -> tuple[str, ...]:
    """What to say of camera-to-world matrices, as files hold them, whose axes are long."""
    lengths = [unscaled_pose(square_matrix(np.asarray(pose, np.float64)))[1] for pose in poses]
    long = [length for length in lengths if length != 1]
    if not long:
        return ()
    return (
        f"axes of {len(long)} of {len(lengths)} cameras are scaled, the first by {long[0]:.6g}: "
        "they are made 1 long, and centres stay",
    )
