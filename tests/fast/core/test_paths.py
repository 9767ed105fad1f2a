import numpy as np
import pytest

from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.geometry.paths import (
    entrywise_path,
    focus_point,
    greedy_order,
    interpolate_linear,
    interpolate_poses,
    loop_path,
    orbit_path,
    turntable,
)
from tttlrm_jax.core.geometry.poses import look_at, pose_problem

EXACT = 1e-10
UP = np.array([0.0, 0.0, 1.0])


def ring(angles, focus=(1.0, 2.0, 3.0), radius=2.0, height=0.7):
    angles = np.asarray(angles, np.float64)
    offset = np.stack(
        [radius * np.cos(angles), radius * np.sin(angles), np.full_like(angles, height)], -1
    )
    return look_at(np.asarray(focus) + offset, np.asarray(focus), UP)


def test_interpolation_repeats_joints_and_halves_the_turn():
    poses = ring([0.0, 1.0, 2.5])
    path = interpolate_poses(poses, 3)
    assert path.shape == (6, 4, 4)
    assert not any(map(pose_problem, path))
    np.testing.assert_allclose(path[[0, 2, 3, 5]], poses[[0, 1, 1, 2]], atol=EXACT)
    np.testing.assert_allclose(path[1, :3, 3], poses[:2, :3, 3].mean(0), atol=EXACT)
    cosine = 0.5 * (np.trace(poses[0, :3, :3].T @ path[1, :3, :3]) - 1)
    full = 0.5 * (np.trace(poses[0, :3, :3].T @ poses[1, :3, :3]) - 1)
    assert np.arccos(cosine) == pytest.approx(0.5 * np.arccos(full))


def test_linear_interpolation_of_any_shape():
    values = np.arange(12.0).reshape(2, 2, 3)
    out = interpolate_linear(values, 4)
    assert out.shape == (4, 2, 3)
    np.testing.assert_allclose(out[1], values[0] + 2.0)


def test_paths_need_two_poses_and_a_step():
    with pytest.raises(InputError, match="two or more"):
        interpolate_poses(ring([0.0]), 4)
    with pytest.raises(InputError, match="steps"):
        interpolate_poses(ring([0.0, 1.0]), 0)


def test_greedy_order_walks_to_the_nearest_unvisited():
    centres = np.array([0.0, 10.0, 1.0, 3.0, -1.5])
    poses = np.tile(np.eye(4), (5, 1, 1))
    poses[:, 0, 3] = centres
    np.testing.assert_array_equal(greedy_order(poses), [0, 2, 3, 4, 1])


def test_loop_ends_where_it_began():
    poses, lenses = ring([0.0, 2.0, 4.0]), np.arange(12.0).reshape(3, 4)
    path, path_lenses = loop_path(poses, lenses, steps=5)
    assert path.shape == (15, 4, 4)
    assert path_lenses.shape == (15, 4)
    np.testing.assert_allclose(path[-1], poses[0], atol=EXACT)
    np.testing.assert_allclose(path_lenses[-1], lenses[0], atol=EXACT)


def test_entrywise_path_keeps_the_given_poses():
    poses = ring([0.0, 0.5, 1.0])
    path = entrywise_path(poses, 3)
    assert path.shape == (9, 4, 4)
    np.testing.assert_allclose(path[::4], poses, atol=EXACT)
    np.testing.assert_allclose(path[1], 0.75 * poses[0] + 0.25 * poses[1], atol=EXACT)


def test_turntable_looks_at_the_origin_at_the_stated_radius():
    poses, lenses = turntable(
        9, (40, 64), horizontal_fov=60.0, elevation=10.0, min_radius=2.0, max_radius=2.0
    )
    assert not any(map(pose_problem, poses))
    distance = np.linalg.norm(poses[:, :3, 3], axis=1)
    np.testing.assert_allclose(distance, 2.0)
    np.testing.assert_allclose(poses[:, :3, 3] + 2.0 * poses[:, :3, 2], 0, atol=EXACT)
    np.testing.assert_allclose(lenses[0], [32 / np.tan(np.pi / 6)] * 2 + [32.0, 20.0])
    rise = np.degrees(np.arcsin(poses[0, 2, 3] / 2.0))
    assert rise == pytest.approx(10.0)


def test_focus_is_where_the_axes_meet():
    poses = ring([0.0, 0.4, 1.1, 2.0])
    np.testing.assert_allclose(focus_point(poses), [1, 2, 3], atol=1e-9)


def test_focus_of_parallel_cameras_lies_in_front():
    poses = np.tile(np.eye(4), (3, 1, 1))
    poses[:, 0, 3] = [-1.0, 0.0, 1.0]
    np.testing.assert_allclose(focus_point(poses), [0, 0, 1.0], atol=EXACT)
    np.testing.assert_allclose(focus_point(poses[1:2]), [0, 0, 1.0], atol=EXACT)


@pytest.mark.parametrize("num_cameras", [5, 16])
def test_orbit_of_surrounding_cameras_is_a_full_even_circle(num_cameras):
    path = orbit_path(ring(np.arange(num_cameras) * 2 * np.pi / num_cameras), 24)
    assert not any(map(pose_problem, path))
    offset = path[:, :3, 3] - [1, 2, 3]
    np.testing.assert_allclose(np.hypot(offset[:, 0], offset[:, 1]), 2.0, atol=1e-6)
    np.testing.assert_allclose(offset[:, 2], 0.7, atol=1e-6)
    steps = np.linalg.norm(np.diff(path[:, :3, 3], axis=0, append=path[:1, :3, 3]), axis=1)
    np.testing.assert_allclose(steps, steps[0], atol=1e-6)


def test_orbit_of_a_narrow_arc_stays_within_it():
    angles = np.linspace(0.5, 1.5, 11)
    path = orbit_path(ring(angles), 40)
    offset = path[:, :3, 3] - [1, 2, 3]
    seen = np.arctan2(offset[:, 1], offset[:, 0])
    assert seen.min() >= 0.5 - 1e-6
    assert seen.max() <= 1.5 + 1e-6
    assert seen.max() - seen.min() > 0.7
    np.testing.assert_allclose(offset[:, 2], 0.7, atol=1e-6)
