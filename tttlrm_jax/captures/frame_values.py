"""What no camera is, whatever file says so: values from which arithmetic would overflow."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tttlrm_jax.captures.camera_files import Frame
from tttlrm_jax.captures.lenses.distortion import Distortion
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.geometry.poses import pose_problem

FOCAL_LENGTHS = (1e-3, 1e9)  # pixels
FARTHEST_CENTRE = 1e9  # pixels
LARGEST_COEFFICIENT = 1e12  # of distortion


def check_values(path: Path, frames: Sequence[Frame]) -> None:
    """Raises InputError for the first frame whose pose or lens is none."""
    for frame in frames:
        problem = pose_problem(frame.world_from_camera)
        problem = f"pose {problem}" if problem is not None else _lens_problem(frame)
        if problem is not None:
            raise InputError(
                f"{path}: frame {frame.number} ({frame.name}): its {problem}; correct the file"
            )


def _lens_problem(frame: Frame) -> str | None:
    focal, centre = frame.intrinsics[:2], frame.intrinsics[2:]
    if not ((focal >= FOCAL_LENGTHS[0]) & (focal <= FOCAL_LENGTHS[1])).all():
        low, high = FOCAL_LENGTHS
        return f"focal lengths {focal.tolist()} are not between {low:g} and {high:g} pixels"
    if not (np.abs(centre) <= FARTHEST_CENTRE).all():
        return f"centre {centre.tolist()} is beyond {FARTHEST_CENTRE:g} pixels"
    lens = frame.distortion
    values = dataclasses.astuple(lens) if isinstance(lens, Distortion) else lens.coefficients
    if not (np.abs(values) <= LARGEST_COEFFICIENT).all():
        return f"distortion {list(values)} has coefficients beyond {LARGEST_COEFFICIENT:g}"
    return None
