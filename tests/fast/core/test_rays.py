import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tttlrm_jax.core.geometry import rays
from tttlrm_jax.core.geometry.poses import look_at
from tttlrm_jax.core.types import Cameras

camera_directions = jax.jit(rays.camera_directions, static_argnums=(1, 2))
camera_rays, plucker = jax.jit(rays.camera_rays), jax.jit(rays.plucker)
HEIGHT, WIDTH = 5, 8
FLOAT32 = 2e-6


def make_cameras(lead=(2, 3), dtype=np.float32):
    rng = np.random.default_rng(0)
    position = rng.normal(size=(*lead, 3)) + np.array([0.0, 0, 4])
    pose = look_at(position, np.zeros(3), np.array([0.0, 1, 0]))
    lens = np.broadcast_to([7.0, 9.0, 3.5, 2.75], (*lead, 4)) + rng.uniform(0, 1, (*lead, 4))
    return Cameras(pose.astype(dtype), lens.astype(dtype), HEIGHT, WIDTH)


def test_one_pixel_by_hand():
    cameras = Cameras(jnp.eye(4), jnp.array([2.0, 4.0, 1.0, 0.5]), HEIGHT, WIDTH)
    local = np.asarray(camera_directions(cameras.intrinsics, HEIGHT, WIDTH))
    np.testing.assert_allclose(local[2, 3], [(3.5 - 1) / 2, (2.5 - 0.5) / 4, 1.0])
    origin, direction = camera_rays(cameras)
    np.testing.assert_array_equal(origin, 0)
    np.testing.assert_allclose(
        np.asarray(direction)[2, 3], np.array([1.25, 0.5, 1]) / np.sqrt(2.8125)
    )


@pytest.mark.parametrize("lead", [(), (1,), (2, 3)])
def test_rays_hit_the_pixels_they_start_from(lead):
    cameras = make_cameras(lead)
    origin, direction = camera_rays(cameras)
    assert origin.shape == direction.shape == (*lead, HEIGHT, WIDTH, 3)
    assert direction.dtype == jnp.float32
    np.testing.assert_allclose(np.linalg.norm(direction, axis=-1), 1.0, atol=FLOAT32)
    pose, lens = np.asarray(cameras.world_from_camera), np.asarray(cameras.intrinsics)
    point = np.asarray(origin) + 3.0 * np.asarray(direction) - pose[..., None, None, :3, 3]
    local = np.einsum("...ij,...hwi->...hwj", pose[..., :3, :3], point)
    x = lens[..., None, None, 0] * local[..., 0] / local[..., 2] + lens[..., None, None, 2]
    y = lens[..., None, None, 1] * local[..., 1] / local[..., 2] + lens[..., None, None, 3]
    column, row = np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5)
    np.testing.assert_allclose(x, np.broadcast_to(column, x.shape), atol=1e-4)
    np.testing.assert_allclose(y, np.broadcast_to(row, y.shape), atol=1e-4)


def test_float64_stays_float64():
    with jax.enable_x64(True):
        origin, direction = camera_rays(make_cameras(dtype=np.float64))
        assert origin.dtype == direction.dtype == jnp.float64
        np.testing.assert_allclose(np.linalg.norm(direction, axis=-1), 1.0, atol=1e-15)


def test_plucker_order_and_moment():
    origin, direction = camera_rays(make_cameras())
    channels = np.asarray(plucker(origin, direction))
    np.testing.assert_array_equal(channels[..., :3], origin)
    np.testing.assert_array_equal(channels[..., 3:6], direction)
    expected = np.cross(np.asarray(origin), np.asarray(direction))
    np.testing.assert_allclose(channels[..., 6:], expected, atol=FLOAT32)


def test_moment_is_the_same_all_along_a_ray():
    origin, direction = camera_rays(make_cameras())
    start, moved = (
        np.asarray(plucker(origin + distance * np.asarray(direction), direction))
        for distance in np.float32([0, 2.5])
    )
    np.testing.assert_allclose(moved[..., 6:], start[..., 6:], atol=1e-5)


def test_gradient_of_direction_with_respect_to_focal_length():
    with jax.enable_x64(True):
        cameras = make_cameras((2,), np.float64)

        @jax.jit
        def total(intrinsics):
            replaced = cameras.replace(intrinsics=intrinsics)
            return jnp.sum(jnp.sin(3.0 * camera_rays(replaced)[1]))

        lens = np.asarray(cameras.intrinsics)
        gradient = np.asarray(jax.jit(jax.grad(total))(lens))
        step = 1e-6
        for entry in np.ndindex(2, 4):
            change = np.zeros_like(lens)
            change[entry] = step
            numeric = (total(lens + change) - total(lens - change)) / (2 * step)
            np.testing.assert_allclose(gradient[entry], numeric, rtol=1e-6, atol=1e-8)
