"""Rotations as quaternions (w, x, y, z) and as matrices, any leading axes.

`rotation_from_quaternion` is for compiled programs: differentiable, of quaternions of any length.
What camera paths and files need is float64 NumPy on the host, whatever JAX's precision is.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from tttlrm_jax.core.types import typechecked


@typechecked
def rotation_from_quaternion(quaternion: Float[Array, "*batch 4"]) -> Float[Array, "*batch 3 3"]:
    """Rotation matrix of a quaternion (w, x, y, z) of any non-zero length.

    The quaternion is normalised inside; derivatives are with respect to the raw value. At length
    zero, where no rotation is defined, the value is the identity and the derivative zero.
    """
    rows = rotation_entries(tuple(jnp.moveaxis(quaternion, -1, 0)))
    return jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)


def rotation_entries(quaternion: Sequence[Array]) -> tuple[tuple[Array, Array, Array], ...]:
    """Rows of `rotation_from_quaternion`, from and to arrays of one component each."""
    return _rows(*unit_components(quaternion))


def rotation_from_unit_quaternion(quaternion: np.ndarray) -> np.ndarray:
    """Float64 rotation matrices [..., 3, 3] of quaternions [..., 4] of length 1, on the host."""
    rows = _rows(*np.moveaxis(np.asarray(quaternion, np.float64), -1, 0))
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def _rows(w, x, y, z):
    return (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )


def unit_components(components: Sequence[Array]) -> list[Array]:
    """Components of a vector over its length; zero, with zero derivative, at length zero.

    Dividing by the largest component first keeps the squares of tiny and huge ones finite.
    """
    largest = jnp.abs(components[0])
    for component in components[1:]:
        largest = jnp.maximum(largest, jnp.abs(component))
    largest = lax.stop_gradient(largest)
    zero = largest == 0
    scaled = [x / jnp.where(zero, jnp.ones_like(x), largest) for x in components]
    squared_length = sum((x * x for x in scaled), start=jnp.zeros_like(largest))
    length = jnp.sqrt(jnp.where(zero, jnp.ones_like(largest), squared_length))
    return [jnp.where(zero, jnp.zeros_like(x), x / length) for x in scaled]


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
