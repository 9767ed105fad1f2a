"""Trajectory errors on cases worked by hand."""

import numpy as np
import pytest

from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.geometry.alignment import umeyama
from tttlrm_jax.core.geometry.poses import PoseNormalisation
from tttlrm_jax.core.geometry.rotations import rotation_from_unit_quaternion
from tttlrm_jax.metrics.trajectory import (
    associate,
    rotation_angle,
    trajectory_errors,
)

RNG = np.random.default_rng(0)


def random_poses(count):
    quaternion = RNG.normal(size=(count, 4))
    poses = np.tile(np.eye(4), (count, 1, 1))
    poses[:, :3, :3] = rotation_from_unit_quaternion(
        quaternion / np.linalg.norm(quaternion, axis=1, keepdims=True)
    )
    poses[:, :3, 3] = RNG.normal(size=(count, 3))
    return poses


def test_a_similarity_costs_nothing():
    true = random_poses(12)
    similarity = PoseNormalisation(
        rotation=random_poses(1)[0, :3, :3], translation=np.array([3.0, -1.0, 2.0]), scale=0.3
    )
    errors = trajectory_errors(similarity.apply_poses(true), true)
    assert errors.ate < 1e-12
    assert errors.rpe_translation < 1e-12
    assert errors.rpe_rotation < 1e-5
    assert errors.alignment.scale == pytest.approx(1 / 0.3)


def test_one_turned_camera_counts_in_two_motions():
    """10 degrees more at frame 3: two of seven motions are off by 10 degrees."""
    true = random_poses(8)
    predicted = true.copy()
    angle = np.radians(10)
    turn = np.array(
        [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    )
    predicted[3, :3, :3] = predicted[3, :3, :3] @ turn
    errors = trajectory_errors(predicted, true)
    assert errors.ate < 1e-12
    assert errors.rpe_rotation == pytest.approx(10 * np.sqrt(2 / 7))


def test_a_displacement_across_the_path_is_the_error():
    """Left and right of a square's corners by turns: alignment cannot take it away."""
    true = np.tile(np.eye(4), (4, 1, 1))
    true[:, :2, 3] = [[0, 0], [1, 0], [1, 1], [0, 1]]
    predicted = true.copy()
    predicted[:, 2, 3] = [0.1, -0.1, 0.1, -0.1]
    scale = umeyama(predicted[:, :3, 3], true[:, :3, 3]).scale
    assert scale == pytest.approx(0.5 / 0.51)  # spread 0.5 of 0.5 + 0.01
    expected = np.sqrt(0.5 * (1 - scale) ** 2 + (0.1 * scale) ** 2)
    assert trajectory_errors(predicted, true).ate == pytest.approx(expected)


def test_mirrored_points_get_a_proper_rotation():
    points = RNG.normal(size=(20, 3))
    fit = umeyama(points, points * [1, 1, -1])
    assert np.linalg.det(fit.rotation) == pytest.approx(1)


@pytest.mark.parametrize("angle", [0.0, 1e-7, 1.0, np.pi - 1e-7, np.pi])
def test_angles_are_exact_at_both_ends(angle):
    c, s = np.cos(angle), np.sin(angle)
    turn = np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    assert rotation_angle(turn) == pytest.approx(angle, abs=1e-9)


def test_stamps_are_matched_with_the_nearest():
    first, second = np.array([0.0, 1.0, 2.0, 5.0]), np.array([2.004, 0.001, 0.995, 3.0, 4.0])
    one, two = associate(first, second)
    assert one.tolist() == [0, 1, 2]
    assert two.tolist() == [1, 2, 0]
    back = associate(second, first)
    assert [index.tolist() for index in back] == [[1, 2, 0], [0, 1, 2]]
    assert associate(np.zeros(0), second)[0].size == 0


def turning(poses, place):
    """The rotations of poses, all at one place, up to the sixth decimal of a file."""
    poses = poses.copy()
    poses[:, :3, 3] = place + RNG.uniform(-5e-7, 5e-7, (len(poses), 3))
    return poses


def test_the_error_at_rest_is_the_spread():
    true = random_poses(30)
    errors = trajectory_errors(random_poses(30), true)
    assert errors.ate_at_rest == pytest.approx(np.sqrt(3 * np.var(true[:, :3, 3], axis=0).mean()))
    assert errors.ate <= errors.ate_at_rest  # a scale of 0 is always there to take


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p, t: (p[:2], t[:2]), "frames=2 are fewer than the 3"),
        (lambda p, t: (p[:5], t), "not two lists of as many"),
        (lambda p, t: (p, np.where(np.arange(6)[:, None, None] == 4, np.nan, t)), r"camera\[4\]"),
        (lambda p, t: (np.tile(p[:1], (6, 1, 1)), t), "predicted trajectory.* has no extent"),
        (lambda p, t: (p, np.tile(t[:1], (6, 1, 1))), "true trajectory.* stands still"),
        (lambda p, t: (p, turning(t, [0.0, 0.0, 0.0])), "true trajectory.* stands still"),
        (lambda p, t: (p, turning(t, [4.5e5, 5.4e6, 120.0])), "stands still"),
    ],
)
def test_what_cannot_be_compared_is_named(change, message):
    predicted, true = change(random_poses(6), random_poses(6))
    with pytest.raises(InputError, match=message):
        trajectory_errors(predicted, true)
