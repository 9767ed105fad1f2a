"""Unit quaternions (w, x, y, z) on the host, any leading axes.

float64 NumPy, whatever JAX's precision is: camera paths are built here. `rotations.py` has the
differentiable conversion for compiled programs, which also normalises.
"""

import numpy as np


def quaternion_from_rotation(rotation: np.ndarray) -> np.ndarray:
    """Quaternions [..., 4] with w >= 0 of rotation matrices [..., 3, 3].

    The eigenvector of the largest eigenvalue of a symmetric 4x4 matrix: no case distinction, and
    the nearest rotation for matrices slightly off (Bar-Itzhack 2000).
    """
    m = np.asarray(rotation, np.float64)
    trace = np.trace(m, axis1=-2, axis2=-1)
    symmetric = np.zeros((*m.shape[:-2], 4, 4))
    symmetric[..., 0, 0] = trace
    for axis in range(3):
        i, j = (axis + 1) % 3, (axis + 2) % 3
        symmetric[..., 0, axis + 1] = symmetric[..., axis + 1, 0] = m[..., j, i] - m[..., i, j]
    symmetric[..., 1:, 1:] = m + np.swapaxes(m, -1, -2) - trace[..., None, None] * np.eye(3)
    quaternion = np.linalg.eigh(symmetric)[1][..., -1]
    return np.where(quaternion[..., :1] < 0, -quaternion, quaternion)


def rotation_from_quaternion(quaternion: np.ndarray) -> np.ndarray:
    """Rotation matrices [..., 3, 3] of unit quaternions [..., 4]."""
    w, x, y, z = np.moveaxis(np.asarray(quaternion, np.float64), -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def slerp(start: np.ndarray, end: np.ndarray, fraction: np.ndarray | float) -> np.ndarray:
    """Great-circle interpolation of unit quaternions [..., 4] along the shorter arc.

    Begins at `start` itself, so w can become negative on the way. `fraction` broadcasts against
    the leading axes. Equal ends are interpolated linearly.
    """
    fraction = np.asarray(fraction, np.float64)[..., None]
    cosine = np.sum(start * end, axis=-1, keepdims=True)
    end = np.where(cosine < 0, -end, end)
    chord = np.linalg.norm(end - start, axis=-1, keepdims=True)
    angle = 2 * np.arcsin(np.clip(0.5 * chord, 0.0, 1.0))  # accurate for small angles as well
    small = angle < 1e-9
    sine = np.where(small, 1.0, np.sin(angle))
    first = np.where(small, 1 - fraction, np.sin((1 - fraction) * angle) / sine)
    second = np.where(small, fraction, np.sin(fraction * angle) / sine)
    out = first * start + second * end
    return out / np.linalg.norm(out, axis=-1, keepdims=True)
