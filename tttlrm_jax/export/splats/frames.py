"""Half a turn about x: from the project's axes to those of formats with y up, and back.

Captures are in OpenCV's sense (x right, y down, z forward; RDF); .spz and glTF have y up and
look along -z (RUB). The turn negates y and z of positions, of quaternions, and the coefficients of
spherical harmonics that are odd in them: nothing is rounded.
"""

import dataclasses
import functools
from typing import Any

import jax.numpy as jnp
import numpy as np

from tttlrm_jax.core.geometry.spherical_harmonics import MAX_DEGREE, sh_basis
from tttlrm_jax.core.types import Gaussians

AXES = np.array([1, -1, -1], np.float32)


def turned_about_x(gaussians: Gaussians) -> Gaussians:
    """The same Gaussians, NumPy, after half a turn about x; twice is nothing."""
    changed: dict[str, Any] = {
        "mean": np.asarray(gaussians.mean) * AXES,
        "quaternion": np.asarray(gaussians.quaternion) * np.append(np.float32(1), AXES),
        "sh": np.asarray(gaussians.sh) * sh_signs()[: gaussians.sh.shape[1], None],
    }
    return dataclasses.replace(gaussians, **changed)


@functools.cache
def sh_signs() -> np.ndarray:
    """What the turn multiplies each coefficient with, float32 [coefficient] of 1 and -1."""
    direction = np.array([0.36, 0.48, 0.8], np.float32)  # no basis function is 0 there
    here, there = (
        np.asarray(sh_basis(jnp.asarray(each), MAX_DEGREE))
        for each in (direction, direction * AXES)
    )
    return np.sign(here * there)
