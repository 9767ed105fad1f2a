"""Coordinates of captures that lie far from their origin, such as those of a map.

Files and devices hold positions as float32, whose steps are 0.03 to 0.5 at the coordinates of UTM.
There positions are given relative to an offset: a point of the capture is `offset + position`, the
sum taken in float64. The offset is 0 wherever the origin is near enough.
"""

import dataclasses
import math

import numpy as np

from tttlrm_jax.core.geometry.poses import PoseNormalisation, normalise_poses

FAR = 100.0  # scene sizes from the origin, from where on float32 would blur (half a step: 6e-6)


def offset_of(similarity: PoseNormalisation) -> np.ndarray:
    """The offset float64 [3] of a scene in the capture's frame, which `similarity` leads from.

    0 up to `FAR` scene sizes from the origin; beyond, the middle of the cameras rounded to a power
    of ten that is no larger than the scene, so that its decimals are few and exact.
    """
    middle, size = similarity.inverse().translation, 1.0 / similarity.scale
    if np.abs(middle).max() <= FAR * size:
        return np.zeros(3)
    decimals = -math.floor(math.log10(size))
    return np.round(middle, decimals) + 0.0  # no negative zeros


def offset_of_poses(world_from_camera: np.ndarray) -> np.ndarray:
    """The offset float64 [3] of a scene that cameras [view, 4, 4] look at, see `offset_of`."""
    return offset_of(normalise_poses(world_from_camera)[1])


def into_capture(similarity: PoseNormalisation, offset: np.ndarray) -> PoseNormalisation:
    """From the frame that `similarity` leads to back into the capture's, relative to `offset`."""
    back = similarity.inverse()
    return dataclasses.replace(back, translation=back.translation - offset)


def moved_poses(world_from_camera: np.ndarray, offset: np.ndarray | float) -> np.ndarray:
    """Poses [..., 4, 4] of the capture relative to `offset`, float64."""
    poses = np.array(world_from_camera, np.float64)
    poses[..., :3, 3] -= offset
    return poses


def offset_text(offset: np.ndarray) -> str:
    """Three decimal numbers that give back the offset exactly."""
    return " ".join(np.format_float_positional(value, trim="-") for value in offset)
