"""Cameras that the tests of plots and of pages draw."""

import numpy as np

from tttlrm_jax.core.geometry.poses import look_at
from tttlrm_jax.reports.camera_plots import NamedCamera


def camera(name, role, position, size=(16, 24)):
    """At a position, looking at the origin; world z is up."""
    pose = look_at(np.array(position), np.zeros(3), np.array([0.0, 0.0, 1.0]))
    return NamedCamera(
        name=name, role=role, world_from_camera=pose, intrinsics=np.array([20.0, 20, 12, 8]),
        height=size[0], width=size[1],
    )  # fmt: skip
