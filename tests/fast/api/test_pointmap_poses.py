"""Cameras from pointmaps: exact ones, with noise and outliers, of pictures of any size."""

import dataclasses
import sys

import numpy as np
import pytest

from tttlrm_jax.api.poses.pointmap_poses import (
    PosesFromPoints,
    cameras_from_ttt3r,
    cameras_of,
    picture_focal,
    read_maps,
)
from tttlrm_jax.api.sequences import Prediction
from tttlrm_jax.config.data import WalkConfig
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.geometry.absolute_pose import pose_from_points
from tttlrm_jax.core.geometry.alignment import transform_points
from tttlrm_jax.core.geometry.pointmaps import unproject
from tttlrm_jax.core.geometry.poses import encoding_from_matrix, matrix_from_encoding
from tttlrm_jax.procedural.walks import random_room, random_walk, render_room
from tttlrm_jax.sequences.frame_images import plan_fit

FRAMES, FOCAL = 3, 120.0
CONFIG = WalkConfig(supersampling=1)
WIDE, TALL, ODD = (90, 160), (160, 90), (61, 83)  # height, width; cropped, and scaled unevenly


class Walk:
    """Says what is exactly true of a walk whose pictures have these sizes, one after the other.

    `noise` is that of depth and points, in shares; `outliers` the share of points anywhere.
    """

    def __init__(self, sizes, mode="crop", noise=0.0, outliers=0.0):
        self.rng = np.random.default_rng(7)
        self.room = random_room(self.rng, CONFIG)
        poses = random_walk(self.rng, self.room, 40 * len(sizes), CONFIG)[::40]
        self.poses = np.linalg.inv(poses[0]) @ poses
        self.world, self.fits = poses, [plan_fit(*size, 64, mode) for size in sizes]
        self.images = [np.zeros((*size, 3), np.uint8) for size in sizes]
        self.noise, self.outliers, self.shown = noise, outliers, 0

    def restart(self):
        self.shown = 0

    def __call__(self, image, *, reset, update):
        number, fit = self.shown, self.fits[self.shown]
        self.shown += 1
        assert image.shape[:2] == fit.output
        height, width = fit.source
        lens = fit.intrinsics(np.array([FOCAL, FOCAL, width / 2, height / 2]))
        config = dataclasses.replace(CONFIG, height=fit.output[0], width=fit.output[1])
        depth = render_room(self.room, self.world[number : number + 1], lens, config)[1][0]
        own = unproject(depth * (1 + self.noise * self.rng.normal(size=depth.shape)), lens)
        world = transform_points(self.poses[number], own)
        world += self.noise * self.rng.normal(size=world.shape)
        wrong = self.rng.random(depth.shape) < self.outliers
        world[wrong] = self.rng.normal(size=(wrong.sum(), 3))
        return Prediction(
            points_self=own.astype(np.float32), points_world=world.astype(np.float32),
            confidence_self=np.where(wrong, self.rng.uniform(1, 3, depth.shape), 2.0), gate=1.0,
            camera_pose=encoding_from_matrix(self.poses[number]).astype(np.float32),
        )  # fmt: skip


def errors(found, true):
    """Largest angle in degrees and largest distance in metres between poses."""
    apart = np.linalg.norm(found[:, :3, :3] - true[:, :3, :3], axis=(1, 2)).max()
    angle = np.degrees(2 * np.arcsin(np.clip(apart / np.sqrt(8), 0, 1)))
    return angle, np.linalg.norm(found[:, :3, 3] - true[:, :3, 3], axis=1).max()


@pytest.mark.parametrize("method", ["regression", "pnp"])
@pytest.mark.parametrize("size", [WIDE, TALL, ODD])
def test_exact_pointmaps_give_exact_cameras_of_the_whole_pictures(method, size):
    if method == "pnp":
        pytest.importorskip("pycolmap")
    walk = Walk([size] * FRAMES)
    poses, intrinsics, notes = cameras_of(read_maps(walk.images, walk, 64), method)
    assert max(errors(poses, walk.poses)) < 1e-3  # degrees, metres: of float32 points
    middle = [size[1] / 2, size[0] / 2]
    np.testing.assert_allclose(intrinsics, [[FOCAL, FOCAL, *middle]] * FRAMES, rtol=1e-5)
    assert notes["doubts"] == []
    assert notes["turn"] < 0.01
    assert notes["shift"] < 1e-3
    assert notes.get("inliers", 1.0) == 1.0


def test_noise_and_outliers_are_borne():
    pytest.importorskip("pycolmap")
    walk = Walk([WIDE] * FRAMES, noise=0.02, outliers=0.3)
    poses, intrinsics, notes = cameras_of(read_maps(walk.images, walk, 64), "pnp")
    angle, distance = errors(poses, walk.poses)
    assert angle < 0.5
    assert distance < 0.02
    np.testing.assert_allclose(intrinsics[:, :2], FOCAL, rtol=0.01)
    assert 0.5 < notes["inliers"] < 0.9
    assert notes["unsolved"] == []


def test_pictures_of_one_size_share_a_focal_length_upright_or_turned():
    walk = Walk([WIDE, TALL, ODD])
    maps = read_maps(walk.images, walk, 64)
    maps[1] = dataclasses.replace(maps[1], focal=1.2 * FOCAL)
    maps[2] = dataclasses.replace(maps[2], focal=2 * FOCAL)
    _, intrinsics, notes = cameras_of(maps, "regression")
    np.testing.assert_allclose(intrinsics[:, 0], [1.1 * FOCAL, 1.1 * FOCAL, 2 * FOCAL], rtol=1e-5)
    assert notes["focal"] == intrinsics[0, 0]


@pytest.mark.parametrize("mode", ["crop", "resize"])
def test_frames_of_a_stream_are_solved_one_by_one(mode):
    pytest.importorskip("pycolmap")
    walk = Walk([ODD] * FRAMES, mode)
    wrong = dataclasses.replace
    solved = PosesFromPoints(
        lambda *a, **b: wrong(walk(*a, **b), camera_pose=np.eye(7, 1)[:, 0]), walk.fits[0]
    )
    image = np.zeros((*walk.fits[0].output, 3), np.uint8)
    made = [solved(image, reset=False, update=True) for _ in range(FRAMES)]
    poses = np.stack([matrix_from_encoding(each.camera_pose) for each in made])
    assert max(errors(poses, walk.poses)) < 1e-3
    assert picture_focal(made[0].points_self, walk.fits[0]) == pytest.approx(FOCAL, rel=1e-5)
    assert solved.num_unsolved == 0


def test_a_network_that_contradicts_itself_is_doubted():
    walk = Walk([WIDE] * FRAMES)
    maps = read_maps(walk.images, walk, 64)
    turned = np.diag([-1.0, -1.0, 1.0, 1.0])
    wrong = [dataclasses.replace(each, regressed=each.regressed @ turned) for each in maps]
    notes = cameras_of(wrong, "regression")[2]
    assert [each for each in notes["doubts"] if "180 degrees" in each]
    still = [dataclasses.replace(each, regressed=np.eye(4)) for each in maps]
    assert "the cameras hardly move" in cameras_of(still, "regression")[2]["doubts"]
    spread = [
        dataclasses.replace(each, focal=f) for each, f in zip(maps, (40, 90, 400), strict=True)
    ]
    assert "focal lengths" in cameras_of(spread, "regression")[2]["doubts"][0]


def test_what_has_no_solution_keeps_its_regressed_pose():
    pytest.importorskip("pycolmap")
    walk = Walk([WIDE] * FRAMES)
    maps = read_maps(walk.images, walk, 64)
    maps[1] = dataclasses.replace(maps[1], points_world=np.full_like(maps[1].points_world, np.nan))
    poses, _, notes = cameras_of(maps, "pnp")
    assert notes["unsolved"] == [1]
    np.testing.assert_array_equal(poses[1], maps[1].regressed)
    assert any("1 pictures have no solution" in each for each in notes["doubts"])
    gone = [dataclasses.replace(each, points_world=maps[1].points_world) for each in maps]
    with pytest.raises(InputError, match="no solution in any of 3 pictures"):
        cameras_of(gone, "pnp")
    behind = [dataclasses.replace(each, focal=float("nan")) for each in maps]
    with pytest.raises(InputError, match="no point is before its camera"):
        cameras_of(behind, "regression")


def test_too_few_pixels_are_no_camera():
    pytest.importorskip("pycolmap")
    points, lens = np.eye(3)[[0, 1, 2, 0, 1]], np.array([10.0, 10, 5, 5])
    assert pose_from_points(points[:, :2], points, lens, (10, 10)) is None


def test_bad_pictures_are_one_sentence(monkeypatch):
    walk = Walk([WIDE])
    with pytest.raises(InputError, match="pictures=1 say nothing"):
        read_maps(walk.images, walk, 64)
    with pytest.raises(InputError, match="is not uint8"):
        read_maps([np.zeros((32, 64, 3))], walk, 64)
    wild = dataclasses.replace(Walk([WIDE])(np.zeros((32, 64, 3)), reset=False, update=True),
                               camera_pose=np.full(7, np.nan))  # fmt: skip
    with pytest.raises(InputError, match="what the network says of picture 0"):
        read_maps(walk.images, lambda *_, **__: wild, 64)
    monkeypatch.setitem(sys.modules, "pycolmap", None)
    with pytest.raises(InputError, match=r'pip install "tttlrm-jax\[sfm\]"'):
        cameras_from_ttt3r(walk.images, method="pnp")


@pytest.mark.extended
def test_the_network_in_the_package_says_what_it_knows():
    walk = Walk([(72, 96)] * 4)
    config = dataclasses.replace(CONFIG, height=72, width=96)
    lens = np.array([FOCAL, FOCAL, 48, 36])
    images = render_room(walk.room, walk.world, lens, config)[0]
    poses, intrinsics, notes = cameras_from_ttt3r(iter(images))
    assert poses.shape == (4, 4, 4)
    assert intrinsics.shape == (4, 4)
    np.testing.assert_array_equal(intrinsics[:, 2:], [[48, 36]] * 4)
    assert "procedural box rooms" in notes["doubts"][0]
