"""Walks through rooms: depth and poses agree with the pictures, same seed, smooth motion."""

import dataclasses

import numpy as np
import pytest

from tttlrm_jax.config.data import WalkConfig
from tttlrm_jax.core.errors import ConfigError
from tttlrm_jax.core.geometry.alignment import transform_points
from tttlrm_jax.core.geometry.pointmaps import unproject
from tttlrm_jax.core.geometry.poses import pose_problem, rigid_inverse
from tttlrm_jax.core.geometry.rotations import quaternion_from_rotation
from tttlrm_jax.procedural.walks import random_room, render_room, render_walk, strided

CONFIG = WalkConfig(height=36, width=52)


@pytest.fixture(scope="module")
def walk():
    return render_walk(3, 24, CONFIG)


def test_shapes_and_poses(walk):
    assert walk.images.shape == (24, 36, 52, 3)
    assert walk.images.dtype == np.uint8
    assert walk.depth.dtype == np.float32
    assert not any(map(pose_problem, walk.world_from_camera))
    assert np.isfinite(walk.depth).all()
    assert walk.depth.min() > 0.1
    assert all(image.std() > 10 for image in walk.images)


def test_a_longer_walk_begins_with_the_shorter(walk):
    short = render_walk(3, 9, CONFIG)
    np.testing.assert_array_equal(short.images, walk.images[:9])
    np.testing.assert_array_equal(short.depth, walk.depth[:9])
    other = render_walk(4, 9, CONFIG)
    assert not np.array_equal(short.images, other.images)


def test_a_faster_walk_is_every_so_many_frames_of_the_slower(walk):
    fast = render_walk(3, 8, strided(CONFIG, 3))
    np.testing.assert_allclose(
        fast.world_from_camera, walk.world_from_camera[::3], rtol=0, atol=1e-12
    )
    assert np.abs(fast.depth - walk.depth[::3]).max() < 1e-3


def test_a_compass_gives_every_side_its_hue_in_every_room(walk):
    compass = dataclasses.replace(CONFIG, compass=True)
    tinted = render_walk(3, 2, compass)
    np.testing.assert_array_equal(tinted.depth, walk.depth[:2])  # nothing else changes
    assert not np.array_equal(tinted.images, walk.images[:2])
    rooms = [random_room(np.random.default_rng(seed), compass) for seed in (0, 1)]
    for side in range(6):
        strongest = {
            tuple(np.argsort(room.textures[side].palette[0] - 1e-3 * np.arange(3)))
            for room in rooms
        }
        assert len(strongest) == 1, side
    for texture in rooms[0].textures[6:]:
        assert np.ptp(texture.palette, axis=1).max() < 0.11


def test_depth_and_poses_explain_the_next_picture(walk):
    """Points of one frame, seen from the next: same depth and colour where neither is hidden."""
    lens = walk.intrinsics
    points = transform_points(walk.world_from_camera[:1], unproject(walk.depth[:1], lens))
    local = transform_points(rigid_inverse(walk.world_from_camera[1]), points[0].reshape(-1, 3))
    column = np.floor(lens[0] * local[:, 0] / local[:, 2] + lens[2]).astype(int)
    row = np.floor(lens[1] * local[:, 1] / local[:, 2] + lens[3]).astype(int)
    inside = (column >= 0) & (column < 52) & (row >= 0) & (row < 36) & (local[:, 2] > 0)
    assert inside.mean() > 0.7
    seen = walk.depth[1][row[inside], column[inside]]
    assert np.median(np.abs(seen / local[inside, 2] - 1)) < 0.01
    colours = walk.images[0].reshape(-1, 3)[inside].astype(float)
    difference = np.abs(colours - walk.images[1][row[inside], column[inside]]).mean(axis=1)
    shuffled = np.abs(colours - colours[::-1]).mean(axis=1)
    assert np.median(difference) < 0.35 * np.median(shuffled)


def test_depth_of_an_empty_room_is_that_of_its_walls():
    config = WalkConfig(height=16, width=16, min_boxes=1, max_boxes=1)
    room = random_room(np.random.default_rng(0), config)
    pose = np.eye(4)  # looking up, at the ceiling
    pose[2, 3] = 1.5
    lens = np.array([64.0, 64.0, 8.0, 8.0])
    _, depth = render_room(room, pose[None], lens, config)
    np.testing.assert_allclose(depth, 2 * room.half[2] - 1.5, rtol=1e-5)


@pytest.mark.parametrize("seed", range(6))
def test_motion_is_smooth_and_clear_of_boxes(seed):
    config = WalkConfig(height=4, width=4, supersampling=1)
    walk = render_walk(seed, 200, config)
    centre = walk.world_from_camera[:, :3, 3]
    assert np.linalg.norm(np.diff(centre, axis=0), axis=1).max() < 0.25
    turns = (
        rigid_inverse(walk.world_from_camera[:-1])[:, :3, :3] @ walk.world_from_camera[1:, :3, :3]
    )
    angle = 2 * np.degrees(np.arccos(np.clip(quaternion_from_rotation(turns)[:, 0], -1, 1)))
    assert angle.max() < 8
    assert np.ptp(centre, axis=0)[:2].max() > 0.5
    assert walk.depth.min() > 0.02


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("min_side", {"min_side": -4.0, "max_side": -3.0}),
        ("min_side", {"min_side": 0.0}),
        ("max_side", {"max_side": 0.0}),
        ("max_side", {"max_side": np.inf}),
        ("min_fov", {"min_fov": np.nan}),
        ("min_fov", {"min_fov": 190.0, "max_fov": 195.0}),
        ("max_fov", {"max_fov": 180.0}),
        ("walk_speed", {"walk_speed": np.nan}),
        ("walk_speed", {"walk_speed": -0.1}),
        ("turn_speed", {"turn_speed": np.inf}),
        ("start_range", {"start_range": 361.0}),
        ("start_range", {"start_range": -1.0}),
    ],
)
def test_rooms_and_walks_that_cannot_be_are_refused(field, changes):
    with pytest.raises(ConfigError, match=rf"^room\.{field}=\S+ is not .*; use "):
        WalkConfig(**changes)


def test_a_camera_may_stand_still():
    still = WalkConfig(height=4, width=4, walk_speed=0.0, turn_speed=0.0, start_range=0.0)
    poses = render_walk(0, 3, still).world_from_camera
    np.testing.assert_array_equal(poses[1:], poses[:2])
    with pytest.raises(ConfigError, match="walk_speed=nan"):
        strided(still, np.nan)


def test_a_limit_is_named():
    with pytest.raises(ConfigError, match="min_boxes"):
        WalkConfig(min_boxes=5, max_boxes=2)
