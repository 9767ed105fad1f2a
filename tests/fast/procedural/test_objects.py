import dataclasses

import numpy as np
import pytest

from tttlrm_jax.config import SyntheticConfig
from tttlrm_jax.core.errors import ConfigError
from tttlrm_jax.core.geometry.poses import pose_problem
from tttlrm_jax.procedural.appearance.textures import TEXTURES, hsv_to_rgb, planes, random_texture
from tttlrm_jax.procedural.objects import random_cameras, random_object, render_object, scene_seed

CONFIG = SyntheticConfig(num_views=6, height=48, width=72)


def lifted(scene, view):
    """World points [pixel, 3] of a view's covered pixels, from its z depth, and their indices."""
    row, column = np.nonzero(scene["depth"][view])
    fx, fy, cx, cy = scene["intrinsics"][view]
    depth = scene["depth"][view][row, column].astype(np.float64)
    local = np.stack([(column + 0.5 - cx) / fx, (row + 0.5 - cy) / fy, np.ones_like(depth)], -1)
    pose = scene["world_from_camera"][view]
    return (local * depth[:, None]) @ pose[:3, :3].T + pose[:3, 3], row, column


def seen_from(scene, view, points):
    """Pixel positions [point, 2] (x, y) and z depth of world points."""
    pose = scene["world_from_camera"][view]
    local = (points - pose[:3, 3]) @ pose[:3, :3]
    fx, fy, cx, cy = scene["intrinsics"][view]
    x, y = fx * local[:, 0] / local[:, 2] + cx, fy * local[:, 1] / local[:, 2] + cy
    return np.stack([x, y], -1), local[:, 2]


def test_shapes_types_and_ranges():
    scene = render_object(3, CONFIG)
    assert scene["image"].shape == (6, 48, 72, 4)
    assert scene["image"].dtype == np.uint8
    assert scene["depth"].shape == (6, 48, 72)
    assert scene["depth"].dtype == np.float32
    assert scene["world_from_camera"].dtype == scene["intrinsics"].dtype == np.float64
    assert not any(map(pose_problem, scene["world_from_camera"]))
    assert np.isfinite(scene["depth"]).all()


def test_same_seed_same_bits_and_other_seed_other_picture():
    first, again, other = (render_object(seed, CONFIG) for seed in (5, 5, 6))
    for name, array in first.items():
        np.testing.assert_array_equal(array, again[name])
    assert not np.array_equal(first["image"], other["image"])


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_depth_agrees_between_views(seed):
    """A point seen in one view is, in another, at the depth found there or hidden behind it."""
    scene = render_object(seed, dataclasses.replace(CONFIG, height=96, width=96))
    points, _, _ = lifted(scene, 0)
    agreeing = 0.0
    for view in range(1, 6):
        pixel, depth = seen_from(scene, view, points)
        index = np.floor(pixel).astype(int)
        inside = ((index >= 1) & (index < 95)).all(axis=1)
        column, row = index[inside].T
        around = np.stack([
            scene["depth"][view][row + i, column + j] for i in (-1, 0, 1) for j in (-1, 0, 1)
        ])  # fmt: skip
        assert (around.max(axis=0) > 0).mean() > 0.995
        nearest = np.where(around > 0, around, np.inf).min(axis=0)
        floating = depth[inside] - nearest < -0.02  # in front of every surface around it
        assert floating.mean() < 0.01
        agreeing = max(agreeing, (np.abs(depth[inside] - around[4]) < 0.02).mean())
    assert agreeing > 0.2


def test_points_lie_in_the_unit_ball_and_on_the_object():
    for seed in range(6):
        scene = render_object(seed, CONFIG)
        points = np.concatenate([lifted(scene, view)[0] for view in range(6)])
        assert np.linalg.norm(points, axis=1).max() <= 1.0 + 1e-4


def test_depth_of_a_sphere_by_hand(monkeypatch):
    """A lone unit sphere at the origin: depth follows from the ray equation."""
    from tttlrm_jax.procedural import objects as synthetic

    model = random_object(np.random.default_rng(0), SyntheticConfig(max_primitives=1))
    sphere = dataclasses.replace(
        model,
        kinds=("sphere",),
        world_from_local=np.eye(3)[None],
        scales=np.ones((1, 3)),
        centres=np.zeros((1, 3)),
        radius=1.0,
    )
    monkeypatch.setattr(synthetic, "random_object", lambda rng, config: sphere)
    scene = render_object(0, CONFIG)
    points, _, _ = lifted(scene, 2)
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1.0, atol=2e-6)
    area = (scene["image"][..., 3] / 255.0).sum(axis=(1, 2))
    covered = (scene["depth"] > 0).sum(axis=(1, 2))
    np.testing.assert_allclose(area, covered, rtol=0.03)


def test_alpha_is_fractional_only_on_outlines():
    scene = render_object(2, CONFIG)
    alpha, covered = scene["image"][..., 3], scene["depth"] > 0
    partial = (alpha > 0) & (alpha < 255)
    assert partial.any()
    inner = covered.copy()
    for axis in (1, 2):
        for step in (1, -1):
            inner &= np.roll(covered, step, axis)
    assert (alpha[inner] == 255).mean() > 0.99
    assert (scene["image"][alpha == 0] == 0).all()


def test_supersampling_only_touches_marked_pixels():
    plain = render_object(1, dataclasses.replace(CONFIG, supersampling=1))
    smooth = render_object(1, dataclasses.replace(CONFIG, supersampling=3))
    np.testing.assert_array_equal(plain["depth"], smooth["depth"])
    assert set(np.unique(plain["image"][..., 3])) <= {0, 255}
    changed = (plain["image"] != smooth["image"]).any(axis=-1).mean()
    assert 0 < changed < 0.4


def test_cameras_obey_the_configuration():
    config = SyntheticConfig(
        num_views=200, min_elevation=10, max_elevation=40, azimuth_span=90, look_jitter=0.0,
        height=30, width=50, min_fov=40, max_fov=40,
    )  # fmt: skip
    poses, intrinsics = random_cameras(np.random.default_rng(0), config, 0.8)
    centre = poses[:, :3, 3]
    distance = np.linalg.norm(centre, axis=1)
    assert distance.min() >= 1.5
    assert distance.max() <= 2.8
    elevation = np.degrees(np.arcsin(centre[:, 2] / distance))
    assert elevation.min() >= 10 - 1e-9
    assert elevation.max() <= 40 + 1e-9
    heading = np.sort(np.degrees(np.arctan2(centre[:, 1], centre[:, 0])) % 360)
    gap = np.diff(heading, append=heading[0] + 360).max()
    assert 360 - gap <= 90 + 1e-9
    np.testing.assert_allclose(poses[:, :3, 2], -centre / distance[:, None], atol=1e-12)
    focal = 15 / np.tan(np.radians(20))
    np.testing.assert_allclose(intrinsics, np.tile([focal, focal, 25, 15], (200, 1)))


def test_objects_vary_in_number_kind_and_texture():
    models = [random_object(np.random.default_rng(s), SyntheticConfig()) for s in range(60)]
    assert {len(model.kinds) for model in models} == set(range(1, 10))
    assert {kind for model in models for kind in model.kinds} == {
        "sphere", "box", "cylinder", "cone", "torus",
    }  # fmt: skip
    assert {t.kind for model in models for t in model.textures} == set(TEXTURES)


@pytest.mark.parametrize("kind", TEXTURES)
def test_textures_are_colours_and_all_but_plain_vary(kind):
    rng = np.random.default_rng(0)
    texture = dataclasses.replace(random_texture(rng), kind=kind)
    colour = planes(texture, rng.uniform(-1, 1, (3, 500)).astype(np.float32)).T
    assert colour.shape == (500, 3)
    assert colour.min() >= 0
    assert colour.max() <= 1
    assert (np.ptp(colour, axis=0).max() > 0.05) == (kind != "plain")


def test_hsv_by_hand():
    hue = np.array([0.0, 1 / 3, 2 / 3, 0.1])
    rgb = hsv_to_rgb(hue, np.array([1.0, 1, 0.5, 0]), np.array([1.0, 0.5, 1, 0.3]))
    np.testing.assert_allclose(rgb, [[1, 0, 0], [0, 0.5, 0], [0.5, 0.5, 1], [0.3] * 3], atol=1e-12)


def test_training_and_evaluation_seeds_never_meet():
    seeds = {
        split: {
            scene_seed(SyntheticConfig(split=split, seed=seed), index)
            for seed in range(5)
            for index in (*range(50), 10**9)
        }
        for split in ("train", "eval")
    }
    assert len(seeds["train"]) == len(seeds["eval"]) == 5 * 51
    assert not seeds["train"] & seeds["eval"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_views", 0), ("height", -1), ("min_primitives", 10), ("min_distance", 1.0),
        ("max_fov", 150.0), ("max_elevation", 91.0), ("look_jitter", 0.9), ("seed", -1),
        ("min_fov", 80.0), ("supersampling", 0),
    ],
)  # fmt: skip
def test_impossible_settings_are_refused(field, value):
    with pytest.raises(ConfigError, match="synthetic"):
        SyntheticConfig(**{field: value})
