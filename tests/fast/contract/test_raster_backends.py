"""Every raster backend keeps the promises of `render`, and agrees with the reference."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tttlrm_jax.config import RasterConfig
from tttlrm_jax.core.arrays import on_device
from tttlrm_jax.core.types import Cameras, Splats
from tttlrm_jax.rasterize import (
    expected_depth,
    fit_capacity,
    render,
    render_views,
)

FLOAT64 = 1e-9  # relative; only the order of sums differs
FLOAT32 = 2e-4  # as the recordings' page suggests for gradients
GSPLAT = RasterConfig()
# `pallas` is, without a GPU, one of the others (tests/fast/rasterize/test_pallas.py).
INTERPRETED = pytest.param("pallas_interpret", marks=pytest.mark.extended)
FAST_BACKENDS = ["tiled", "balanced", INTERPRETED]
ALL_BACKENDS = ["reference", *FAST_BACKENDS]
# For what happens before compositing, in code that the backends share.
LESS_OFTEN = ["tiled", pytest.param("balanced", marks=pytest.mark.extended), INTERPRETED]
BALANCED_OFTEN = [pytest.param("tiled", marks=pytest.mark.extended), "balanced", INTERPRETED]
SLOW_REFERENCE = pytest.param("reference", marks=pytest.mark.extended)
SMALL = 512  # slots: more than any scene below needs


@dataclasses.dataclass(frozen=True)
class Scene:
    """A seeded cloud in front of, beside and behind a slightly turned camera."""

    height: int
    width: int
    count: int
    features: tuple[int, ...]
    scale: tuple[float, float] = (0.02, 0.2)
    opacity: tuple[float, float] = (0.0, 1.0)
    config: RasterConfig = GSPLAT
    capacity: int = 4096

    def build(self, dtype, seed: int = 0) -> tuple[Splats, Cameras, jax.Array]:
        rng = np.random.default_rng(seed)
        splats = Splats(
            mean=rng.normal(size=(self.count, 3), loc=[0, 0, 2.5]),
            quaternion=rng.normal(size=(self.count, 4)),
            scale=np.exp(rng.uniform(*np.log(self.scale), (self.count, 3))),
            opacity=rng.uniform(*self.opacity, self.count),
            features=rng.normal(size=(self.count, *self.features)),
        )
        pose = np.eye(4)
        pose[:3, :3] = np.linalg.qr(np.eye(3) + 0.1 * rng.normal(size=(3, 3)))[0]
        pose[:3, :3] *= np.sign(np.diag(pose[:3, :3]))
        pose[:3, 3] = rng.normal(size=3) * 0.1
        focal = 0.9 * max(self.height, self.width)
        intrinsics = np.array([focal, 1.1 * focal, 0.45 * self.width, 0.6 * self.height])
        cast = functools.partial(jnp.asarray, dtype=dtype)
        cameras = Cameras(cast(pose), cast(intrinsics), self.height, self.width)
        return jax.tree.map(cast, splats), cameras, cast(rng.uniform(size=self.features[-1:]))


SCENES = {
    "harmonics": Scene(21, 19, 70, (16, 3)),
    "features, one row": Scene(1, 43, 50, (5,)),
    "opaque stack": Scene(18, 21, 160, (1, 3), (0.5, 2.0), (0.9, 1.0)),
    "long lists": Scene(11, 9, 300, (1,), (0.3, 1.0), (0.01, 0.05)),
    "antialiased": Scene(24, 33, 60, (4, 3), (0.001, 0.1), config=RasterConfig(antialiased=True)),
}


@functools.cache
def value_and_gradients(scene: Scene, backend: str, dtype):
    """(rendering, gradients of a random projection of it, by argument)."""
    splats, cameras, background = scene.build(dtype)
    config = dataclasses.replace(scene.config, backend=backend)

    @jax.jit
    def run(splats, pose, intrinsics, background, bars):
        def loss(*arguments):
            splats, pose, intrinsics, background = arguments
            one = Cameras(pose, intrinsics, scene.height, scene.width)
            image = render(
                splats, one, background=background, config=config, capacity=scene.capacity
            )
            parts = (image.rgb, image.depth, image.alpha)
            return sum(jnp.sum(p * b) for p, b in zip(parts, bars, strict=True)), image

        return jax.grad(loss, argnums=(0, 1, 2, 3), has_aux=True)(
            splats, pose, intrinsics, background
        )

    rng = np.random.default_rng(1)
    size = (scene.height, scene.width)
    shapes = ((*size, scene.features[-1]), size, size)
    bars = tuple(on_device(rng.normal(size=shape), dtype) for shape in shapes)
    grads, image = run(splats, cameras.world_from_camera, cameras.intrinsics, background, bars)
    return image, grads


def assert_close(actual, expected, tolerance):
    for path, wanted in jax.tree_util.tree_leaves_with_path(expected):
        got = dict(jax.tree_util.tree_leaves_with_path(actual))[path]
        scale = np.abs(wanted).max(initial=0)
        np.testing.assert_allclose(
            got, wanted, rtol=0, atol=tolerance * max(scale, 1e-3), err_msg=str(path)
        )


@pytest.mark.parametrize(
    "name",
    [
        "antialiased",
        *(
            pytest.param(name, marks=pytest.mark.extended)
            for name in sorted(set(SCENES) - {"harmonics", "antialiased"})  # in float32 below
        ),
    ],
)
@pytest.mark.parametrize("backend", LESS_OFTEN[:2])
def test_equals_reference(backend, name):
    with jax.enable_x64(True):
        expected = value_and_gradients(SCENES[name], "reference", jnp.float64)
        actual = value_and_gradients(SCENES[name], backend, jnp.float64)
    assert actual[0].rgb.dtype == np.float64
    assert actual[0].num_dropped == 0
    for leaf in jax.tree.leaves(expected[1]):
        assert np.abs(leaf).max() > 0
    assert_close(actual, expected, FLOAT64)


@pytest.mark.parametrize("backend", BALANCED_OFTEN)
def test_equals_reference_in_float32(backend):
    scene = SCENES["harmonics"]
    expected = value_and_gradients(scene, "reference", jnp.float32)
    actual = value_and_gradients(scene, backend, jnp.float32)
    assert_close(actual, expected, FLOAT32)


@pytest.mark.extended
@pytest.mark.parametrize("backend", ALL_BACKENDS)
def test_scenes_and_views_are_independent(backend):
    """vmap over scenes of render_views equals one scene and one view at a time.

    `tests/fast/rasterize/test_balanced.py` has batches of the balanced backend by default.
    """
    scene = Scene(9, 10, 20, (1, 3), config=RasterConfig(backend=backend), capacity=SMALL)
    parts = [scene.build(jnp.float32, seed) for seed in range(4)]
    splats = jax.tree.map(lambda *x: jnp.stack(x), *(part[0] for part in parts[:2]))
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *(part[1] for part in parts))
    cameras = jax.tree.map(lambda x: x.reshape(2, 2, *x.shape[1:]), stacked)
    white = jnp.ones(3)

    def loss(splats, cameras, renderer):
        image = renderer(splats, cameras, background=white, config=scene.config, capacity=SMALL)
        return jnp.sum(image.rgb**2) + jnp.sum(image.depth * image.alpha)

    all_views = functools.partial(render_views, views_at_once=2)
    batched = jax.jit(jax.vmap(jax.value_and_grad(functools.partial(loss, renderer=all_views))))
    values, grads = batched(splats, cameras)
    single = jax.jit(jax.value_and_grad(functools.partial(loss, renderer=render)))
    for i in range(2):
        scene_splats = take(splats, i)
        results = [single(scene_splats, cameras[i, j]) for j in range(2)]
        expected = jax.tree.map(lambda a, b: a + b, *results)
        assert_close((values[i], take(grads, i)), expected, 1e-5)


def take(tree, index):
    return jax.tree.map(lambda x: x[index], tree)


@pytest.mark.parametrize("backend", LESS_OFTEN)
def test_overflow_is_counted_and_spares_the_near(backend):
    """Of one Gaussian per tile and depth, the capacity keeps the nearest and counts the rest."""
    count = 40
    splats = Splats(
        mean=jnp.stack([jnp.zeros(count), jnp.zeros(count), jnp.linspace(9.0, 1.0, count)], axis=1),
        quaternion=jnp.ones((count, 4)),
        scale=jnp.full((count, 3), 1e-3),
        opacity=jnp.full(count, 0.1),
        features=jnp.arange(count, dtype=jnp.float32)[:, None],
    )
    cameras = Cameras(jnp.eye(4), jnp.asarray([8.0, 8.0, 4.0, 4.0]), 8, 8)
    config = RasterConfig(backend=backend)
    draw = jax.jit(functools.partial(render, config=config), static_argnames="capacity")
    complete = draw(splats, cameras, capacity=count)
    partial = draw(splats, cameras, capacity=25)
    shown = jnp.where(jnp.arange(count) < count - 25, 0.0, splats.opacity)
    near = draw(splats.replace(opacity=shown), cameras, capacity=count)
    assert complete.num_dropped == 0
    assert partial.num_dropped == count - 25
    np.testing.assert_allclose(partial.rgb, near.rgb, rtol=1e-6)
    assert np.abs(partial.rgb - complete.rgb).max() > 0.01
    assert fit_capacity(splats, cameras, config=config) >= count


@pytest.mark.extended
@pytest.mark.parametrize("backend", [SLOW_REFERENCE, *LESS_OFTEN])
def test_non_finite_gaussians_are_absent(backend):
    scene = Scene(9, 10, 12, (1, 3), config=RasterConfig(backend=backend), capacity=SMALL)
    splats, cameras, background = scene.build(jnp.float32)
    broken = Splats(
        mean=splats.mean.at[0, 1].set(jnp.nan),
        quaternion=splats.quaternion.at[1, 0].set(jnp.inf),
        scale=splats.scale.at[2, 2].set(jnp.nan),
        opacity=splats.opacity.at[3].set(jnp.nan),
        features=splats.features.at[4, 0, 0].set(-jnp.inf),
    )

    @jax.jit
    @functools.partial(jax.value_and_grad, argnums=(0, 1, 2), has_aux=True)
    def differentiate(splats, pose, intrinsics):
        one = Cameras(pose, intrinsics, scene.height, scene.width)
        image = render(splats, one, background=background, config=scene.config, capacity=SMALL)
        return jnp.sum(image.rgb**2) + jnp.sum(image.depth), image.num_invalid

    pose, intrinsics = cameras.world_from_camera, cameras.intrinsics
    (value, invalid), grads = differentiate(broken, pose, intrinsics)
    present = jax.tree.map(lambda x: x[5:], splats)
    (wanted, none_invalid), wanted_grads = differentiate(present, pose, intrinsics)
    assert invalid == 5
    assert none_invalid == 0
    np.testing.assert_allclose(value, wanted, rtol=1e-6)
    for leaf, wanted_leaf in zip(
        jax.tree.leaves(grads[0]), jax.tree.leaves(wanted_grads[0]), strict=True
    ):
        assert np.all(leaf[:5] == 0)
        np.testing.assert_allclose(leaf[5:], wanted_leaf, rtol=1e-4, atol=1e-5)
    assert_close(grads[1:], wanted_grads[1:], 1e-5)


@pytest.mark.parametrize("backend", ALL_BACKENDS)
def test_no_gaussians_are_background(backend):
    splats = Splats(*(jnp.zeros((0, *axes)) for axes in ((3,), (4,), (3,), (), (4, 3))))
    cameras = Cameras(jnp.eye(4), jnp.asarray([5.0, 5.0, 2.0, 1.0]), 1, 1)
    background = jnp.asarray([0.1, 0.2, 0.3])
    config = RasterConfig(backend=backend)

    @jax.jit
    @functools.partial(jax.grad, argnums=(0, 1), has_aux=True)
    def gradients(splats, background):
        image = render(splats, cameras, background=background, config=config)
        return jnp.sum(image.rgb), image

    grads, image = gradients(splats, background)
    np.testing.assert_array_equal(image.rgb[0, 0], background)
    np.testing.assert_array_equal(image.alpha, 0)
    assert image.num_invalid == 0
    assert grads[0].mean.shape == (0, 3)
    np.testing.assert_array_equal(grads[1], 1)


def edge_clouds() -> dict[str, Splats]:
    """Three Gaussians each; those that do not matter are transparent."""
    base = Splats(
        mean=jnp.asarray([[0.0, 0, 2], [0.3, 0.2, 2], [-0.4, 0.1, 3]]),
        quaternion=jnp.tile(jnp.asarray([1.0, 0, 0, 0]), (3, 1)),
        scale=jnp.tile(jnp.asarray([0.3, 0.1, 0.2]), (3, 1)),
        opacity=jnp.asarray([0.7, 0.0, 0.0]),
        features=jnp.asarray([[1.0, -2.0], [0.5, 0.5], [3.0, 1.0]]),
    )
    all_three = jnp.asarray([0.7, 1.0, 0.2])
    return {
        "regular": base,
        "no scale": base.replace(scale=jnp.zeros((3, 3))),
        "one flat": base.replace(scale=base.scale.at[:, 2].set(0), opacity=all_three),
        "no quaternion": base.replace(quaternion=jnp.zeros((3, 4))),
        "camera inside": base.replace(
            mean=base.mean.at[0].set(jnp.asarray([0.01, 0.0, 0.05])), scale=jnp.ones((3, 3))
        ),
        "behind, on the plane": base.replace(
            mean=base.mean * jnp.asarray([[1.0], [-1.0], [0.0]]) - jnp.asarray([[0.0, 0, 2]]),
            opacity=all_three,
        ),
        "too large": base.replace(scale=base.scale.at[1].set(1e30), opacity=all_three),
    }


@functools.cache
def edge_case_runner(backend: str, size: tuple[int, int]):
    """cloud -> (gradients, rendering), in float32."""
    intrinsics, background = jnp.asarray([8.0, 8.0, 0.5, 0.5]), jnp.asarray([0.1, 0.2])

    @jax.jit
    @functools.partial(jax.grad, argnums=(0, 1, 2, 3), has_aux=True)
    def run(splats, pose, intrinsics, background):
        one = Cameras(pose, intrinsics, *size)
        config = RasterConfig(backend=backend)
        image = render(splats, one, background=background, config=config, capacity=64)
        return jnp.sum(image.rgb**2) + jnp.sum(expected_depth(image)), image

    return lambda splats: run(splats, jnp.eye(4), intrinsics, background)


@pytest.mark.parametrize("backend", BALANCED_OFTEN)
@pytest.mark.parametrize("size", [pytest.param((1, 1), marks=pytest.mark.extended), (9, 10)])
def test_edge_cases_are_defined(size, backend):
    """Backends agree, every derivative is finite, and values are those worked out by hand."""
    alpha = {}
    for name, splats in edge_clouds().items():
        grads, image = edge_case_runner("reference", size)(splats)
        assert_close(edge_case_runner(backend, size)(splats), (grads, image), FLOAT32)
        assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves((grads, image))), name
        assert image.num_invalid == (name == "too large")
        alpha[name] = np.asarray(image.alpha)
    np.testing.assert_allclose(alpha["regular"][0, 0], 0.7, rtol=1e-5)
    distance = np.hypot(*np.mgrid[: size[0], : size[1]])  # px from the centre of the Gaussian
    blob = 0.7 * np.exp(-(distance**2) / (2 * GSPLAT.eps2d))
    np.testing.assert_allclose(alpha["no scale"], np.where(blob < 1 / 255, 0, blob), rtol=1e-5)
    np.testing.assert_allclose(alpha["no quaternion"], alpha["regular"], rtol=1e-5)
    np.testing.assert_allclose(alpha["camera inside"], 0.7, rtol=5e-3)
    np.testing.assert_array_equal(alpha["behind, on the plane"], 0)


@pytest.mark.parametrize("backend", ALL_BACKENDS)
def test_second_opaque_layer_stops_the_pixel(backend):
    """(1 - max_alpha)^2 lies below min_transmittance in float32 and must do so in float64."""
    draw = jax.jit(functools.partial(render, config=RasterConfig(backend=backend)))
    for dtype in (np.float32, np.float64):
        with jax.enable_x64(dtype == np.float64):
            cast = functools.partial(jnp.asarray, dtype=dtype)
            splats = Splats(
                mean=cast([[0.0, 0, 1], [0, 0, 2]]),
                quaternion=cast(np.ones((2, 4))),
                scale=cast(np.full((2, 3), 10.0)),
                opacity=cast(np.ones(2)),
                features=cast([[1.0], [100.0]]),
            )
            cameras = Cameras(cast(np.eye(4)), cast([9.0, 9, 4, 4]), 8, 8)
            image = draw(splats, cameras)
        np.testing.assert_allclose(image.alpha, np.float64(np.float32(0.99)), rtol=1e-7)
        np.testing.assert_allclose(image.rgb[..., 0], image.alpha, rtol=1e-7)
