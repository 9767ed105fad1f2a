"""Poses as seven numbers (translation, unit quaternion wxyz) and as 4x4 camera-to-world matrices.

float64 NumPy on the host: poses of long sequences are chained there.
"""

import numpy as np

from tttlrm_jax.core.geometry.rotations import (
    quaternion_from_rotation,
    rotation_from_unit_quaternion,
)


def matrix_from_encoding(encoding: np.ndarray) -> np.ndarray:
    """Matrices `[..., 4, 4]` of encodings `[..., 7]`; quaternions have length 1."""
    encoding = np.asarray(encoding, np.float64)
    matrix = np.broadcast_to(np.eye(4), (*encoding.shape[:-1], 4, 4)).copy()
    matrix[..., :3, :3] = rotation_from_unit_quaternion(encoding[..., 3:])
    matrix[..., :3, 3] = encoding[..., :3]
    return matrix


def encoding_from_matrix(matrix: np.ndarray) -> np.ndarray:
    """Encodings `[..., 7]` with w >= 0 of rigid matrices `[..., 4, 4]`."""
    matrix = np.asarray(matrix, np.float64)
    quaternion = quaternion_from_rotation(matrix[..., :3, :3])
    return np.concatenate([matrix[..., :3, 3], quaternion], axis=-1)
