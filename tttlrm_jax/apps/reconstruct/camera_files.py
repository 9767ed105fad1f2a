"""`--write-cameras`: all cameras of a capture in the formats of other programs."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tttlrm_jax.apps.progress import announced
from tttlrm_jax.apps.reconstruct.job import Evaluated, Job
from tttlrm_jax.captures.camera_files import Frame
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.export.cameras.colmap_points import points_of
from tttlrm_jax.export.cameras.formats import write_frames
from tttlrm_jax.per_scene import Improved

CAMERAS_FOLDER = "cameras"


def numbered_anew(job: Job) -> bool:
    """Whether frames of the camera file are left out before others, whose places are then new."""
    frames = job.capture.frames
    return frames[-1].number != len(frames) - 1


def refined_frames(job: Job, evaluated: Evaluated) -> tuple[list[Frame], Sequence[int], bool]:
    """The frames of the capture, with refined cameras where these were refined (the third says
    so), and which of them were inputs, where the frames are all those of the camera file."""
    record, frames = evaluated.refinement, list(job.capture.frames)
    inputs = () if numbered_anew(job) else np.unique(job.request.inputs).tolist()
    own = record.photographs if isinstance(record, Improved) else None
    if own is None or own.world_from_camera is None:
        return frames, inputs, False
    poses = job.scene.similarity.inverse().apply_poses(own.world_from_camera)
    for number, pose in zip(job.request.inputs, poses, strict=True):
        frames[number] = dataclasses.replace(frames[number], world_from_camera=pose)
    return frames, inputs, True


def write_all_cameras(directory: Path, job: Job, evaluated: Evaluated) -> dict[str, str]:
    """The formats of `write_cameras` in cameras/, in the coordinates of the capture; with its
    triangulated points, where it has any.

    Cameras that a format has no place for are not written in it, others are: a sentence each.
    """
    formats, refused = dict.fromkeys(job.config.write_cameras), {}
    if not formats:
        return {}
    frames, inputs, _ = refined_frames(job, evaluated)
    with announced(f"writing cameras ({', '.join(formats)})"):
        points = points_of(job.capture)
        for each in formats:
            try:
                write_frames([each], directory / CAMERAS_FOLDER, frames, points, inputs=inputs)
            except InputError as error:
                refused[each] = f"Cameras for {each} were not written: {error}."
    return refused
