"""Directions of least variance of many small neighbourhoods at once."""

import numpy as np

LEAST_GAP = 1e-3  # between the two smaller eigenvalues, relative: closer ones go to LAPACK


def least_axes(covariance: np.ndarray) -> np.ndarray:
    """Unit eigenvectors [matrix, 3] of the smallest eigenvalues of symmetric [matrix, 3, 3].

    Of arbitrary sign. The eigenvalue is the trigonometric root of the characteristic polynomial
    (Smith 1961), the vector the longest cross product of two rows of A - lambda I. Where the two
    smaller eigenvalues nearly coincide that loses digits, and `numpy.linalg.eigh` is asked.
    """
    trace = np.trace(covariance, axis1=1, axis2=2) / 3
    centred = covariance - trace[:, None, None] * np.eye(3)
    radius = np.sqrt(np.einsum("nij,nij->n", centred, centred) / 6)
    safe = np.where(radius > 0, radius, 1.0)
    cosine = np.clip(_determinant(centred / safe[:, None, None]) / 2, -1.0, 1.0)
    angle = np.arccos(cosine) / 3
    # eigenvalues over the radius, about the trace: 2 cos(angle + 2 pi k / 3), least for k = 1
    least = 2 * np.cos(angle + 2 * np.pi / 3)
    middle = 2 * np.cos(angle - 2 * np.pi / 3)
    rows = centred - (radius * least)[:, None, None] * np.eye(3)
    crossed = np.stack([np.cross(rows[:, i], rows[:, j]) for i, j in ((0, 1), (1, 2), (2, 0))], 1)
    length = np.linalg.norm(crossed, axis=2)
    longest, every = length.argmax(axis=1), np.arange(len(covariance))
    size = length[every, longest]
    unsure = (radius == 0) | (middle - least < LEAST_GAP) | (size == 0)
    axes = crossed[every, longest] / np.where(size > 0, size, 1.0)[:, None]
    axes[unsure] = np.linalg.eigh(covariance[unsure])[1][:, :, 0]
    return axes


def _determinant(m: np.ndarray) -> np.ndarray:
    """Of matrices [matrix, 3, 3]; NumPy's goes through LAPACK one by one."""
    return np.einsum("ni,ni->n", m[:, 0], np.cross(m[:, 1], m[:, 2]))
