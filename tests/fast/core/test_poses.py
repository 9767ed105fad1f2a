import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tttlrm_jax.core.arrays import on_device
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.geometry.poses import (
    first_chunk_normalisation,
    look_at,
    mean_pose,
    normalise_poses,
    pose_problem,
    rigid_inverse,
)

EXACT = 1e-12  # float64 rounding of a few products


def cameras(num_views=7, seed=0, offset=(5.0, -3.0, 2.0)):
    rng = np.random.default_rng(seed)
    position = rng.normal(size=(num_views, 3)) + np.array([0, 0, 4.0])
    poses = look_at(position, rng.normal(size=(num_views, 3)) * 0.3, np.array([0.0, 1.0, 0.0]))
    poses[:, :3, 3] += offset
    return poses


def test_look_at_has_opencv_axes():
    pose = look_at(np.array([0.0, -2.0, 0.0]), np.zeros(3), np.array([0.0, 0.0, 1.0]))
    np.testing.assert_allclose(pose[:3, 0], [1, 0, 0], atol=EXACT)  # right
    np.testing.assert_allclose(pose[:3, 1], [0, 0, -1], atol=EXACT)  # down
    np.testing.assert_allclose(pose[:3, 2], [0, 1, 0], atol=EXACT)  # towards the target
    assert pose_problem(pose) is None


def test_look_at_along_up_is_still_a_rotation():
    pose = look_at(np.array([0.0, 0.0, 3.0]), np.zeros(3), np.array([0.0, 0.0, 1.0]))
    assert pose_problem(pose) is None
    np.testing.assert_allclose(pose[:3, 2], [0, 0, -1], atol=EXACT)


def test_rigid_inverse_over_leading_axes():
    poses = cameras(6).reshape(2, 3, 4, 4)
    identity = np.broadcast_to(np.eye(4), poses.shape)
    np.testing.assert_allclose(rigid_inverse(poses) @ poses, identity, atol=EXACT)
    assert rigid_inverse(poses.astype(np.float32)).dtype == np.float64
    compiled = jax.jit(rigid_inverse)(on_device(poses, np.float32))
    assert compiled.dtype == jnp.float32
    np.testing.assert_allclose(compiled, rigid_inverse(poses), rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("method", ["mean_cam", "first_cam"])
def test_normalised_centres_fill_the_unit_cube(method):
    poses, similarity = normalise_poses(cameras(), method)
    assert np.abs(poses[:, :3, 3]).max() == pytest.approx(1.0)
    assert not any(map(pose_problem, poses))
    if method == "first_cam":
        np.testing.assert_allclose(poses[0], np.eye(4), atol=EXACT)
    else:
        np.testing.assert_allclose(poses[:, :3, 3].mean(0), 0, atol=EXACT)
        np.testing.assert_allclose(mean_pose(poses), np.eye(4), atol=EXACT)
    assert similarity.scale > 0


@pytest.mark.parametrize("method", ["mean_cam", "first_cam"])
def test_pixels_do_not_move_and_the_inverse_leads_back(method):
    raw = cameras()
    poses, similarity = normalise_poses(raw, method)
    points = np.random.default_rng(1).normal(size=(20, 3)) + raw[:, :3, 3].mean(0)
    moved = similarity.apply_points(points)
    for before, after in zip(raw, poses, strict=True):
        old = (points - before[:3, 3]) @ before[:3, :3]
        new = (moved - after[:3, 3]) @ after[:3, :3]
        np.testing.assert_allclose(new, similarity.scale * old, atol=1e-10)
    back = similarity.inverse()
    np.testing.assert_allclose(back.apply_points(moved), points, atol=1e-10)
    np.testing.assert_allclose(back.apply_poses(poses), raw, atol=1e-10)


def test_reference_views_define_frame_and_scale():
    raw = cameras(9)
    poses, similarity = normalise_poses(raw, "mean_cam", raw[:4])
    alone, alone_similarity = normalise_poses(raw[:4], "mean_cam")
    np.testing.assert_array_equal(poses[:4], alone)
    assert similarity.scale == alone_similarity.scale
    assert np.abs(poses[:4, :3, 3]).max() == pytest.approx(1.0)


def test_the_choice_of_world_does_not_matter():
    raw = cameras()
    turned, _ = normalise_poses(raw, "first_cam")
    for method in ("mean_cam", "first_cam"):
        one, _ = normalise_poses(raw, method)
        two, _ = normalise_poses(turned, method)
        np.testing.assert_allclose(one, two, atol=1e-10)


def test_coincident_centres_keep_their_scale():
    raw = cameras(3)
    raw[:, :3, 3] = raw[0, :3, 3]
    for chosen in (raw, raw[:1]):
        poses, similarity = normalise_poses(chosen, "mean_cam")
        assert similarity.scale == 1.0
        np.testing.assert_allclose(poses[:, :3, 3], 0, atol=EXACT)


@pytest.mark.parametrize("method", ["mean_cam", "first_cam", "focus"])
@pytest.mark.parametrize("num_inputs", [1, 3])
@pytest.mark.parametrize("noise", [0.0, 1e-9])
def test_coincident_reference_takes_its_scale_from_all_cameras(method, num_inputs, noise):
    """Inputs at one point, also up to the decimals of a file; a target 50 units away."""
    raw = cameras(num_inputs + 2)
    raw[:num_inputs, :3, 3] = raw[0, :3, 3]
    raw[:num_inputs, :3, 3] += noise * np.random.default_rng(0).normal(size=(num_inputs, 3))
    raw[-1, :3, 3] = raw[0, :3, 3] + [0.0, 30.0, 40.0]
    poses, similarity = normalise_poses(raw, method, raw[:num_inputs])
    if method == "focus":
        np.testing.assert_allclose(np.linalg.norm(poses[:num_inputs, :3, 3], axis=1), 1.0)
        assert similarity.scale == pytest.approx(1 / 50)
    else:
        np.testing.assert_allclose(poses[:num_inputs, :3, 3], 0, atol=1e-8)
        assert np.abs(poses[:, :3, 3]).max() == pytest.approx(1.0)
        assert 1 / 50 <= similarity.scale < np.sqrt(3) / 50
    again, _ = normalise_poses(raw, method, raw[:num_inputs])
    np.testing.assert_array_equal(again, poses)


@pytest.mark.parametrize("height", [0.0, 1.0, -2.0])
@pytest.mark.parametrize("num_views", [2, 4, 16])
def test_regular_rings_have_a_stable_frame(num_views, height):
    """Directions cancel (height 0) or both means point along the axis of the ring."""
    angle = 0.3 + 2 * np.pi * np.arange(num_views) / num_views
    position = np.stack([2 * np.cos(angle), 2 * np.sin(angle), np.full(num_views, height)], -1)
    poses = look_at(position, np.zeros(3), np.array([0.0, 0.0, 1.0]))
    noisy = poses.copy()
    noisy[:, :3, 3] += 1e-9 * np.random.default_rng(0).normal(size=(num_views, 3))
    noisy[:, :3, :3] = look_at(noisy[:, :3, 3], np.zeros(3), np.array([0.0, 0, 1]))[:, :3, :3]
    one, _ = normalise_poses(poses, "mean_cam")
    two, _ = normalise_poses(noisy, "mean_cam")
    assert not any(map(pose_problem, one))
    np.testing.assert_allclose(one, two, atol=1e-7)
    assert np.abs(one[:, :3, 3]).max() == pytest.approx(1.0)


def test_unknown_method_and_no_cameras():
    with pytest.raises(InputError, match="mean_cam, first_cam or focus"):
        normalise_poses(cameras(), "median")
    with pytest.raises(InputError, match="at least one"):
        normalise_poses(np.zeros((0, 4, 4)))


def broken(change):
    pose = cameras(1)[0]
    change(pose)
    return pose


@pytest.mark.parametrize(
    ("pose", "words"),
    [
        (np.zeros((3, 4)), "shape"),
        (broken(lambda p: p.__setitem__((0, 0), np.nan)), "not finite"),
        (broken(lambda p: p.__setitem__((slice(0, 3), 0), 0.0)), "singular"),
        (broken(lambda p: p.__setitem__((slice(0, 3), slice(0, 3)), 2 * p[:3, :3])), "not rigid"),
        (broken(lambda p: p.__setitem__((slice(0, 3), 0), -p[:3, 0])), "mirrors"),
        (broken(lambda p: p.__setitem__((3, 0), 0.5)), "last row"),
    ],
)
def test_bad_poses_are_named(pose, words):
    assert words in pose_problem(pose)


def test_focus_puts_what_the_cameras_look_at_at_the_origin():
    rng = np.random.default_rng(3)
    focus = np.array([3.0, -2.0, 5.0])
    positions = focus + rng.normal(size=(5, 3)) * [2.0, 2.0, 4.0]
    poses = look_at(positions, focus, np.array([0.0, 0.0, 1.0]))
    moved, similarity = normalise_poses(poses, "focus")
    np.testing.assert_allclose(similarity.apply_points(focus[None]), np.zeros((1, 3)), atol=1e-9)
    distances = np.linalg.norm(moved[:, :3, 3], axis=1)
    np.testing.assert_allclose(distances.mean(), 1.0)
    np.testing.assert_allclose(np.cross(moved[:, :3, 3], moved[:, :3, 2]), 0, atol=1e-9)
    back = similarity.inverse().apply_poses(moved)
    np.testing.assert_allclose(back, poses, atol=1e-9)


def test_focus_of_one_camera_is_finite():
    pose = look_at(np.array([50.0, 0, 0]), np.zeros(3), np.array([0.0, 0, 1]))[None]
    moved, _ = normalise_poses(pose, "focus")
    np.testing.assert_allclose(np.linalg.norm(moved[0, :3, 3]), 1.0)


@pytest.mark.parametrize("method", ["mean_cam", "first_cam", "focus"])
def test_a_stream_keeps_the_frame_of_its_first_chunk(method):
    raw = cameras()
    similarity, has_scale = first_chunk_normalisation(raw[:3], method, distance=7.0)
    assert has_scale
    expected = normalise_poses(raw[:3], method)[1]
    np.testing.assert_allclose(similarity.apply_poses(raw), expected.apply_poses(raw), atol=EXACT)


@pytest.mark.parametrize("method", ["mean_cam", "first_cam", "focus"])
def test_one_view_takes_its_scale_from_the_distance(method):
    """The point that far ahead of the camera lies at distance 1, whatever the capture's unit."""
    raw = cameras(1)
    for unit in (1.0, 1000.0):
        scaled = raw.copy()
        scaled[:, :3, 3] *= unit
        similarity, has_scale = first_chunk_normalisation(scaled, method, distance=2.5 * unit)
        assert not has_scale
        assert similarity.scale == pytest.approx(1 / (2.5 * unit))
        ahead = scaled[0, :3, 3] + 2.5 * unit * scaled[0, :3, 2]
        centre, point = similarity.apply_points(np.stack([scaled[0, :3, 3], ahead]))
        assert np.linalg.norm(point - centre) == pytest.approx(1.0)
        np.testing.assert_allclose(point if method == "focus" else centre, 0, atol=1e-9)
