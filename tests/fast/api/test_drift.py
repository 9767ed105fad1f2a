"""Loops of a walk that returns, with a model whose drift is known."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from tttlrm_jax.api.poses.drift import LoopCloser, candidates, overlap, thumbnail
from tttlrm_jax.api.sequences import FrameStream, Prediction
from tttlrm_jax.core.geometry.poses import encoding_from_matrix, rigid_inverse
from tttlrm_jax.metrics.trajectory import trajectory_errors
from tttlrm_jax.sequences.frame_images import Fit

SIZE = (32, 48)
COUNT, LAPS = 48, 1.1  # the last frames see again what the first ones saw
RADIUS = 5.0  # of the sphere that is seen from a circle inside
DRIFT = np.radians(0.5)  # a step, about the vertical


def true_pose(number):
    angle = 2 * np.pi * LAPS * number / COUNT
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_rotvec([0, angle, 0]).as_matrix()
    pose[:3, 3] = np.sin(angle), 0.1 * np.sin(2 * angle), np.cos(angle)
    return pose


def picture(number):
    """A smooth picture of the sphere, with the frame's number in the blue of one pixel."""
    points = sphere(number) @ true_pose(number)[:3, :3].T + true_pose(number)[:3, 3]
    waves = np.sin(points @ np.array([[1.1, 0.7], [0.9, -1.3], [0.6, 1.2]])).sum(axis=-1)
    image = np.repeat((60 * waves + 127).astype(np.uint8)[..., None], 3, axis=2)
    image[0, 0, 2] = number
    return image


def sphere(number):
    """Points [height, width, 3] in the camera."""
    pose, (height, width) = true_pose(number), SIZE
    y, x = np.mgrid[:height, :width]
    rays = np.stack([(x - width / 2) / width, (y - height / 2) / width, np.ones(SIZE)], axis=-1)
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    centre = -pose[:3, :3].T @ pose[:3, 3]
    along = rays @ centre
    return rays * (along + np.sqrt(along**2 + RADIUS**2 - centre @ centre))[..., None]


class DriftingModel:
    """Knows the truth, but turns a little more with every frame; a chunk has a unit of its own."""

    def __init__(self, confused=False):
        self.confused, self.chunk = confused, 0
        self.restart()

    def restart(self):
        self._first, self._frames = None, 0

    def __call__(self, image, *, reset, update):
        number = int(image[0, 0, 2])
        self._first = number if self._first is None else self._first
        pose = rigid_inverse(true_pose(self._first)) @ true_pose(number)
        drift = np.eye(4)
        drift[:3, :3] = Rotation.from_rotvec([0, DRIFT * self._frames, 0]).as_matrix()
        pose = drift @ pose
        if self.confused and self._frames == 1 and number < self._first:
            pose[:3, 3] += 3.0
        unit = 0.8**self.chunk
        pose[:3, 3] *= unit
        points = (unit * sphere(number)).astype(np.float32)
        self._frames += 1
        if reset:
            self.chunk += 1
            self.restart()
        return Prediction(
            points_self=points, confidence_self=np.ones(SIZE, np.float32), points_world=points,
            camera_pose=encoding_from_matrix(pose).astype(np.float32), gate=1.0,
        )  # fmt: skip


def walked(model, reset_every=0):
    """Errors before and after, and what was closed."""
    fit = Fit(SIZE, SIZE, SIZE, (0, 0), "crop")
    stream, closer = FrameStream(model, lambda height, width: fit, reset_every), LoopCloser()
    before = []
    for number in range(COUNT):
        result = stream.step(picture(number))
        before.append(result.world_from_camera)
        closer.add(result)
    closed = closer.close(model)
    closer.discard()
    true = np.stack([true_pose(number) for number in range(COUNT)])
    ates = [trajectory_errors(x, true).ate for x in (np.stack(before), closed.world_from_camera)]
    return ates, closed, np.stack(before)


@pytest.mark.parametrize("reset_every", [0, 16])
def test_a_walk_that_returns_is_closed(reset_every):
    (before, after), closed, _ = walked(DriftingModel(), reset_every)
    assert closed.loops
    assert all(second - first >= 20 for first, second in closed.loops)
    assert after < 0.6 * before


def test_pairs_that_contradict_themselves_close_nothing():
    _, closed, poses = walked(DriftingModel(confused=True))
    assert closed.tried > 0
    assert not closed.loops
    np.testing.assert_array_equal(closed.world_from_camera, poses)


def test_pictures_that_are_even_resemble_nothing():
    even = np.stack([thumbnail(np.full((*SIZE, 3), 90, np.uint8))] * 60)
    assert candidates(even) == []


def test_points_overlap_where_they_lie_on_each_other():
    points = sphere(0)
    assert overlap(points, points) == 1.0
    assert overlap(points, points + np.array([0, 0, 4.0])) < 0.1
