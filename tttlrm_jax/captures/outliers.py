"""Cameras that stand far away from all others: most often a photograph registered wrongly.

Scale and origin of a scene come from its cameras, so one of them far away makes all else small.
Nothing is left out unless it is asked for: the frame of published protocols is that of all cameras.
"""

import dataclasses

import numpy as np

from tttlrm_jax.captures.capture import Capture
from tttlrm_jax.core.errors import InputError, listed

FAR = 6.0  # times the distance from the middle that three quarters of the cameras keep to
SHARE = 0.75
MIN_CAMERAS = 4  # below, no camera is an exception


def relative_distance(world_from_camera: np.ndarray) -> np.ndarray:
    """How far the cameras of poses [camera, 4, 4] are from the middle of all: [camera].

    Distances are from the median of the centres, in units of the one that three quarters of them
    keep to; 1 for all where most cameras stand in one place, or there are few.
    """
    centre = np.asarray(world_from_camera, np.float64)[:, :3, 3]
    if len(centre) < MIN_CAMERAS:
        return np.ones(len(centre))
    distance = np.linalg.norm(centre - np.median(centre, axis=0), axis=1)
    usual = float(np.quantile(distance, SHARE, method="lower"))
    if usual <= 1e-9 * max(1e-3, float(np.abs(np.median(centre, axis=0)).max())):
        return np.ones(len(centre))
    return distance / usual


def checked_outliers(capture: Capture, drop: bool) -> Capture:
    """The capture with a note that names its outlying cameras; with `drop` without their frames.

    The others keep their numbers. Raises InputError where no frame would be left to aim at.
    """
    times = relative_distance(capture.world_from_camera)
    marked = times > FAR
    if not marked.any():
        return capture
    names = [capture.frames[index].name for index in np.flatnonzero(marked)]
    stand = "stands" if len(names) == 1 else "stand"
    note = (
        f"outlier: {listed(names)} {stand} {times[marked].min():.3g} times as far from the middle "
        f"of the cameras as three quarters of them do"
    )
    if not drop:
        note += ", which can make all else small; --drop-outliers leaves such cameras out"
        return dataclasses.replace(capture, notes=(*capture.notes, note))
    return without_frames(capture, marked, f"{note}, and left out (--drop-outliers)")


def without_frames(capture: Capture, dropped: np.ndarray, note: str) -> Capture:
    """The capture without the marked frames [frame]; prescribed lists that used one go with it."""
    kept = np.flatnonzero(~dropped)
    if not len(kept):
        raise InputError(f"capture={capture.name} has no frame left; leave fewer out")
    position = {int(old): new for new, old in enumerate(kept)}
    folds = {
        count: tuple(position[place] for place in places)
        for count, places in capture.folds.items()
        if all(place in position for place in places)
    }
    frames = tuple(capture.frames[place] for place in kept)
    return dataclasses.replace(capture, frames=frames, folds=folds, notes=(*capture.notes, note))
