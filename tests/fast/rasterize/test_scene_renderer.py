"""Scenes of any size: block by block and band by band gives the pictures of `render`."""

import jax
import numpy as np
import pytest

from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.geometry.poses import look_at
from tttlrm_jax.core.types import Cameras, Gaussians
from tttlrm_jax.rasterize import Renderer, SceneRenderer

HEIGHT, WIDTH = 72, 40
BACKGROUND = (0.2, 0.4, 0.9)


def cloud(count: int, log_scale: float = -2.0, seed: int = 0) -> Gaussians:
    """Around the origin, some behind the camera, with colours of degree 1."""
    rng = np.random.default_rng(seed)
    parts = (
        rng.normal(size=(count, 3)) * 1.5, rng.normal(size=(count, 4, 3)) * 0.5,
        rng.normal(log_scale, 0.4, (count, 3)), rng.normal(size=(count, 4)), rng.normal(size=count),
    )  # fmt: skip
    return Gaussians(*(part.astype(np.float32) for part in parts))


def camera(angle: float = 0.3) -> Cameras:
    place = 4 * np.array([np.sin(angle), 0.1, -np.cos(angle)])
    pose = look_at(place, np.zeros(3), np.array([0.0, -1.0, 0.0]))
    return Cameras(pose, np.array([45.0, 50.0, 21.0, 34.0]), HEIGHT, WIDTH)


ALL_AT_ONCE = Renderer(background=BACKGROUND)


def whole(gaussians: Gaussians, view: Cameras):
    return ALL_AT_ONCE(gaussians, jax.tree.map(lambda x: np.asarray(x, np.float32), view))


def test_blocks_and_bands_give_the_picture_of_render():
    """Nine rows of tiles are several bands, 300 Gaussians several blocks with a part of one."""
    gaussians = cloud(300)
    renderer = SceneRenderer(gaussians, background=BACKGROUND, block=128)
    made, expected = renderer(camera()), whole(gaussians, camera())
    for name in ("rgb", "depth", "alpha"):
        np.testing.assert_allclose(getattr(made, name), getattr(expected, name), atol=2e-5)
    assert np.asarray(made.rgb).std() > 0.05
    assert 0 < renderer.num_seen < 300  # culled before sorting
    assert renderer.seconds > 0


def test_one_program_for_many_cameras_and_room_that_grows():
    gaussians = cloud(300)
    renderer = SceneRenderer(gaussians, background=BACKGROUND, block=128)
    renderer(camera())
    spent = renderer.compile_seconds
    for angle in (0.35, 3.3):
        np.testing.assert_allclose(
            renderer(camera(angle)).rgb, whole(gaussians, camera(angle)).rgb, atol=2e-5
        )
    assert renderer.compile_seconds == spent


def test_invalid_gaussians_are_counted_and_nothing_is_nothing():
    gaussians = cloud(300)
    gaussians.mean[3] = np.nan
    renderer = SceneRenderer(gaussians, background=BACKGROUND, block=128)
    made = renderer(camera())
    assert int(made.num_invalid) == 1
    assert np.isfinite(made.rgb).all()
    away = camera().replace(world_from_camera=np.eye(4) + 100 * np.eye(4, k=3))
    none = renderer.with_scene(jax.tree.map(lambda x: x[:0], gaussians))
    for picture in (renderer(away).rgb, none(camera()).rgb):
        expected = np.broadcast_to(BACKGROUND, (HEIGHT, WIDTH, 3))
        np.testing.assert_allclose(picture, expected, rtol=1e-6)


def test_bad_input():
    with pytest.raises(InputError, match="render one scene at a time"):
        SceneRenderer(jax.tree.map(lambda x: x[None], cloud(2)))
    with pytest.raises(InputError, match="give one camera"):
        SceneRenderer(cloud(2))(camera()[None])
