"""Errors of traces against walks: of every prefix, and of every frame.

ATE: metres, root mean square of positions after the best Sim(3) of the prefix. Rotation: degrees,
mean angle against the true pose in the first camera's frame, nothing aligned. Abs Rel: depth after
one scale per prefix. Points: metres, mean distance of self-view points placed by the poses, in the
first camera's frame, after the same scale.
"""

import numpy as np

from experiments.ttt3r_length.recurrence import Traces
from experiments.ttt3r_length.walks import Walks
from tttlrm_jax.core.geometry.poses import rigid_inverse
from tttlrm_jax.metrics.depth import align_depth, score_depth
from tttlrm_jax.metrics.trajectory import rotation_angle, trajectory_errors

METRICS = {"ate": "m", "rotation": "degrees", "abs_rel": "relative", "points": "m"}


def prefix_scores(walks: Walks, traces: Traces, lengths: list[int]) -> dict[str, np.ndarray]:
    """Metrics [length, scene] over the first so many frames."""
    num_scenes = walks.images.shape[1]
    scores = {name: np.zeros((len(lengths), num_scenes)) for name in METRICS}
    angles = rotation_errors(walks, traces)
    true = walks.first_from_camera
    for scene in range(num_scenes):
        depth, predicted = walks.depth[:, scene], traces.points_self[:, scene, ..., 2]
        distance = PointDistance(walks, traces, scene)
        for row, length in enumerate(lengths):
            scores["ate"][row, scene] = position_error(
                traces.poses[:length, scene], true[:length, scene]
            )
            scores["rotation"][row, scene] = angles[:length, scene].mean()
            valid = depth[:length] > 0
            p, g = predicted[:length][valid], depth[:length][valid]
            scale, shift = align_depth(p, g, "scale")
            scores["abs_rel"][row, scene] = score_depth(p, g, scale, shift).abs_rel
            scores["points"][row, scene] = distance.of_frames(scale, length)[1]
    return scores


def frame_scores(walks: Walks, traces: Traces) -> dict[str, np.ndarray]:
    """By frame [frame], means over scenes: errors as of the whole sequence, and the state.

    Positions are not aligned here: metres from the true place in the first camera's frame.
    """
    true, num_scenes = walks.first_from_camera, walks.images.shape[1]
    position = np.linalg.norm(traces.poses[..., :3, 3] - true[..., :3, 3], axis=-1)
    points, abs_rel = [], []
    for scene in range(num_scenes):
        depth, predicted = walks.depth[:, scene], traces.points_self[:, scene, ..., 2]
        valid = depth > 0
        scale, _ = align_depth(predicted[valid], depth[valid], "scale")
        points.append(PointDistance(walks, traces, scene).of_frames(scale, len(depth))[0])
        relative = np.abs(scale * predicted - depth) / np.where(valid, depth, 1)
        abs_rel.append(_mean_where(relative, valid))
    return {
        "position": position.mean(axis=1),
        "rotation": rotation_errors(walks, traces).mean(axis=1),
        "abs_rel": np.mean(abs_rel, axis=0),
        "points": np.mean(points, axis=0),
        "change": traces.change.mean(axis=1),
        "gate": traces.gate.mean(axis=1),
        "memory": traces.memory.mean(axis=1),
    }


def position_error(predicted: np.ndarray, true: np.ndarray) -> float:
    """ATE of poses [frame, 4, 4]; where nothing moves no scale helps, and it is the spread."""
    places = predicted[:, :3, 3]
    if not np.ptp(places, axis=0).any():
        spread = true[:, :3, 3] - true[:, :3, 3].mean(axis=0)
        return float(np.sqrt(np.mean(np.sum(spread**2, axis=1))))
    return trajectory_errors(predicted, true).ate


def rotation_errors(walks: Walks, traces: Traces) -> np.ndarray:
    """Angles in degrees [frame, scene]."""
    difference = rigid_inverse(walks.first_from_camera) @ traces.poses
    return np.degrees(rotation_angle(difference[..., :3, :3]))


class PointDistance:
    """Distances between one scene's predicted and true points."""

    def __init__(self, walks: Walks, traces: Traces, scene: int):
        self._predicted, self._true = traces.points_of(scene), walks.points_of(scene)
        self._valid = walks.depth[:, scene] > 0

    def of_frames(self, scale: float, length: int) -> tuple[np.ndarray, float]:
        """Means of the first frames, [frame], and of all their pixels."""
        difference = np.float32(scale) * self._predicted[:length] - self._true[:length]
        distance, valid = np.linalg.norm(difference, axis=-1), self._valid[:length]
        return _mean_where(distance, valid), float(distance[valid].mean())


def _mean_where(values: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Means [frame] over valid pixels of [frame, height, width]."""
    count = np.maximum(valid.sum(axis=(1, 2)), 1)
    return np.where(valid, values, 0).sum(axis=(1, 2)) / count
