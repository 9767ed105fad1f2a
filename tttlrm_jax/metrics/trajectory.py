"""Camera trajectories: association by time, Sim(3) alignment, ATE and RPE.

Poses are `world_from_camera` [frame, 4, 4]. Their rotations go through unit quaternions first,
so nearly orthogonal predictions count as the nearest rotation. float64 NumPy.
"""

import dataclasses
import math

import numpy as np

from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.geometry.alignment import umeyama
from tttlrm_jax.core.geometry.poses import PoseNormalisation, rigid_inverse
from tttlrm_jax.core.geometry.rotations import (
    quaternion_from_rotation,
    rotation_from_unit_quaternion,
)
from tttlrm_jax.sequences.time_stamps import nearest_stamps

MAX_TIME_DIFFERENCE = 0.01  # seconds
STILL = 1e-5  # spread of true positions, in their units, that is rounding and no motion


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrajectoryErrors:
    """Errors after alignment; lengths in units of the ground truth, angles in degrees."""

    ate: float  # root mean square of position errors
    rpe_translation: float  # root mean square over consecutive pairs
    rpe_rotation: float  # degrees, root mean square over consecutive pairs
    alignment: PoseNormalisation  # true from predicted
    aligned: np.ndarray  # [frame, 4, 4] predicted poses in the true frame
    ate_at_rest: float  # of a prediction that never moves: the spread of the true positions


def trajectory_errors(predicted: np.ndarray, true: np.ndarray) -> TrajectoryErrors:
    """ATE and RPE of predicted against true poses, frame by frame, [frame, 4, 4] both.

    The prediction is aligned by the Sim(3) that best maps its positions. RPE compares motions
    between consecutive frames: E = (Q_i^-1 Q_i+1)^-1 (P_i^-1 P_i+1), Q true and P aligned. Raises
    InputError for fewer than three frames, unequal numbers, poses that are not finite, and a true
    camera that stands still: any path shrinks to a point, and the error would be 0.
    """
    predicted, true = orthogonal_poses(predicted), orthogonal_poses(true)
    spread = _spread(true[:, :3, 3]) if len(true) else 0.0
    if len(true) and spread <= max(STILL, 1e-12 * float(np.abs(true[:, :3, 3]).max())):
        raise InputError.of(
            "true trajectory", "one point", "stands still, so every path fits it once shrunk to a "
            "point", "score a camera that moves",
        )  # fmt: skip
    alignment = umeyama(predicted[:, :3, 3], true[:, :3, 3])
    aligned = alignment.apply_poses(predicted)
    errors = np.linalg.norm(aligned[:, :3, 3] - true[:, :3, 3], axis=1)
    difference = rigid_inverse(_motions(true)) @ _motions(aligned)
    return TrajectoryErrors(
        ate=_rms(errors),
        rpe_translation=_rms(np.linalg.norm(difference[:, :3, 3], axis=1)),
        rpe_rotation=_rms(np.degrees(rotation_angle(difference[:, :3, :3]))),
        alignment=alignment,
        aligned=aligned,
        ate_at_rest=spread,
    )


def orthogonal_poses(world_from_camera: np.ndarray) -> np.ndarray:
    """Poses [frame, 4, 4] float64 whose rotations went through unit quaternions.

    Raises InputError naming the first pose that is not finite.
    """
    poses = np.array(world_from_camera, np.float64)
    finite = np.isfinite(poses).reshape(len(poses), -1).all(axis=1)
    if not finite.all():
        index = int(np.flatnonzero(~finite)[0])
        raise InputError.of(
            f"world_from_camera[{index}]", "a pose with NaN or infinity", "cannot be compared",
            "leave that frame out",
        )  # fmt: skip
    poses[:, :3, :3] = rotation_from_unit_quaternion(quaternion_from_rotation(poses[:, :3, :3]))
    return poses


def rotation_angle(rotation: np.ndarray) -> np.ndarray:
    """Angles [...] in radians, 0 to pi, of rotations [..., 3, 3]; accurate at both ends."""
    quaternion = quaternion_from_rotation(rotation)
    return 2 * np.arctan2(np.linalg.norm(quaternion[..., 1:], axis=-1), quaternion[..., 0])


def associate(
    first: np.ndarray, second: np.ndarray, max_difference: float = MAX_TIME_DIFFERENCE
) -> tuple[np.ndarray, np.ndarray]:
    """Indices into two lists of time stamps (seconds) that belong together.

    For each stamp of the shorter list the nearest of the longer one, where it is within
    `max_difference`; a stamp of the longer one may serve twice. `second` counts as the longer
    where both are as long. Stamps need not be sorted.
    """
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if len(first) > len(second):
        two, one = associate(second, first, max_difference)
        return one, two
    if not len(first):
        return np.zeros(0, int), np.zeros(0, int)
    nearest = nearest_stamps(first, second, max_difference)
    kept = np.flatnonzero(nearest >= 0)
    return kept, nearest[kept]


def _motions(poses: np.ndarray) -> np.ndarray:
    """Each pose as seen from the one before: [frame - 1, 4, 4]."""
    return rigid_inverse(poses[:-1]) @ poses[1:]


def _spread(positions: np.ndarray) -> float:
    """Root mean square distance of positions [frame, 3] from their mean."""
    return _rms(np.linalg.norm(positions - positions.mean(axis=0), axis=1))


def _rms(values: np.ndarray) -> float:
    return math.sqrt(float(np.mean(np.square(values))))
