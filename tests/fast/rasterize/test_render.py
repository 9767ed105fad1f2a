"""`render` at its edge: one Gaussian by hand, views, capacities, errors."""

import functools
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tttlrm_jax.core.arrays import on_device
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.types import Cameras, Splats
from tttlrm_jax.rasterize import (
    Renderer,
    composite,
    default_capacity,
    expected_depth,
    fit_capacity,
    project_and_colour,
    render,
    render_views,
    warn_if_incomplete,
)

draw = jax.jit(render, static_argnames="capacity")


def one_gaussian(features) -> Splats:
    return Splats(
        mean=jnp.asarray([[0.0, 0.0, 2.0]]),
        quaternion=jnp.asarray([[1.0, 0, 0, 0]]),
        scale=jnp.full((1, 3), 0.2),
        opacity=jnp.asarray([0.8]),
        features=jnp.asarray(features, jnp.float32),
    )


def camera(height=11, width=20) -> Cameras:
    intrinsics = jnp.asarray([20.0, 20.0, width / 2, height / 2])
    return Cameras(jnp.eye(4), intrinsics, height, width)


def test_one_gaussian():
    """Deviation 20 * 0.2 / 2 = 2 px; alpha = 0.8 exp(-d^2 / 2 / 4.3), cut at 1/255."""
    image = draw(one_gaussian([[1.0, -3.0]]), camera(), background=jnp.asarray([0.5, 0.25]))
    y, x = np.mgrid[:11, :20] + 0.5
    alpha = 0.8 * np.exp(-((x - 10) ** 2 + (y - 5.5) ** 2) / (2 * 4.3))
    alpha[alpha < 1 / 255] = 0
    assert 0 < np.sum(alpha == 0) < alpha.size
    np.testing.assert_allclose(image.alpha, alpha, atol=1e-6)
    np.testing.assert_allclose(image.rgb[..., 0], alpha + (1 - alpha) * 0.5, atol=1e-6)
    np.testing.assert_allclose(image.rgb[..., 1], -3 * alpha + (1 - alpha) * 0.25, atol=1e-6)
    np.testing.assert_allclose(image.depth, 2 * alpha, atol=1e-6)
    np.testing.assert_allclose(expected_depth(image), np.where(alpha > 0, 2, 0), atol=1e-5)


def test_harmonics_are_offset_and_clamped():
    image = draw(one_gaussian([[[1.0, 0.0, -9.0]]]), camera())
    colour = np.asarray([0.28209479 + 0.5, 0.5, 0.0])
    np.testing.assert_allclose(image.rgb[5, 9], colour * image.alpha[5, 9], rtol=1e-5)


def test_harmonics_look_from_the_camera():
    """The third coefficient grows with z of the direction: seen from behind it changes sign."""
    splats = one_gaussian([[[0.0] * 3, [0.0] * 3, [0.5] * 3, [0.0] * 3]])
    turned = camera()
    turned = turned.__class__(
        jnp.diag(jnp.asarray([-1.0, 1.0, -1.0, 1.0])).at[2, 3].set(4.0), turned.intrinsics, 11, 20
    )
    front, back = draw(splats, camera()), draw(splats, turned)
    np.testing.assert_allclose(front.alpha, back.alpha, atol=1e-6)
    shift = 0.5 * np.sqrt(3 / (4 * np.pi))
    alpha = front.alpha[5, 9]
    np.testing.assert_allclose(front.rgb[5, 9], alpha * (0.5 + shift), rtol=1e-4)
    np.testing.assert_allclose(back.rgb[5, 9], alpha * (0.5 - shift), rtol=1e-4)


def cloud(count: int) -> Splats:
    rng = np.random.default_rng(0)
    arrays = (
        rng.normal(size=(count, 3), loc=[0, 0, 3], scale=0.5),
        rng.normal(size=(count, 4)),
        rng.uniform(0.05, 0.3, (count, 3)),
        rng.uniform(size=count),
        rng.uniform(size=(count, 3)),
    )
    return Splats(*(jnp.asarray(x, jnp.float32) for x in arrays))


@pytest.mark.extended
def test_views_equal_single_renderings():
    poses = np.tile(np.eye(4, dtype=np.float32), (3, 1, 1))
    poses[:, 0, 3] = [-0.3, 0.0, 0.4]
    one = camera(13, 18)
    views = Cameras(on_device(poses), jnp.tile(one.intrinsics, (3, 1)), 13, 18)
    white = jnp.ones(3)
    together = jax.jit(lambda s, c: render_views(s, c, background=white))(cloud(30), views)
    single = functools.partial(draw, background=white)
    assert together.rgb.shape == (3, 13, 18, 3)
    for i in range(3):
        alone = single(cloud(30), views[i])
        np.testing.assert_allclose(together.rgb[i], alone.rgb, atol=1e-6)
        np.testing.assert_allclose(together.depth[i], alone.depth, atol=1e-5)
    eager = Renderer(background=(1.0, 1.0, 1.0))(cloud(30), views)
    np.testing.assert_allclose(eager.rgb, together.rgb, atol=1e-6)


def test_eager_rendering_outgrows_the_default():
    """Gaussians that cover a large image need more slots than the default has."""
    splats = cloud(300).replace(scale=jnp.full((300, 3), 3.0), opacity=jnp.full(300, 0.05))
    wide = camera(96, 80)
    short = draw(splats, wide)
    assert short.num_dropped > 0
    complete = Renderer()(splats, wide)
    assert complete.num_dropped == 0
    capacity = fit_capacity(splats, wide)
    assert capacity == 2 ** int(np.log2(capacity))
    needed = int(short.num_dropped) + default_capacity(300, 96, 80)
    assert needed <= capacity < 2 * needed


@pytest.mark.extended
def test_parts_of_a_cloud_are_projected_apart():
    """Projecting halves, joining what they give, and compositing equals rendering the whole."""
    whole, one, white = cloud(31), camera(13, 18), jnp.ones(3)

    @jax.jit
    def both(splats):
        halves = jax.tree.map(lambda x: x[:15], splats), jax.tree.map(lambda x: x[15:], splats)
        screens = [
            project_and_colour(half, jnp.eye(4), one.intrinsics, one.height, one.width)
            for half in halves
        ]
        screen = jax.tree.map(lambda *x: jnp.concatenate(x), *screens)
        joined = composite(screen, one.height, one.width, background=white)
        return joined, render(splats, one, background=white)

    joined, rendered = both(whole)
    assert rendered.alpha.max() > 0.5
    for name in ("rgb", "depth", "alpha", "num_dropped"):
        np.testing.assert_allclose(getattr(joined, name), getattr(rendered, name), atol=1e-6)


def test_no_channels_leave_depth_and_alpha():
    image = draw(one_gaussian([[]]), camera(1, 4))
    alpha = 0.8 * np.exp(-(np.array([1.5, 0.5, 0.5, 1.5]) ** 2) / (2 * 4.3))
    assert image.rgb.shape == (1, 4, 0)
    np.testing.assert_allclose(image.alpha[0], alpha, rtol=1e-5)
    np.testing.assert_allclose(image.depth, 2 * image.alpha, rtol=1e-5)


def test_incomplete_renderings_warn_once(caplog):
    splats = cloud(40).replace(scale=jnp.ones((40, 3)))
    broken = splats.replace(opacity=splats.opacity.at[:2].set(jnp.nan))

    @functools.partial(jax.jit, static_argnums=1)
    def run(splats, capacity):
        image = render(splats, camera(), capacity=capacity)
        warn_if_incomplete(image, "test")
        return image.num_dropped

    assert run(splats, 240) == 0
    jax.effects_barrier()
    assert not caplog.messages
    dropped = run(broken, 100)
    run(broken, 100)
    jax.effects_barrier()
    assert caplog.messages == [
        f"test: {dropped} intersections beyond capacity; pass what fit_capacity returns",
        "test: 2 Gaussians with NaN or infinity are left out",
    ]


def test_capacity_has_a_limit(monkeypatch):
    assert fit_capacity(jax.tree.map(lambda x: x[:0], cloud(1)), camera()) >= 1
    module = importlib.import_module("tttlrm_jax.rasterize.render")
    monkeypatch.setattr(module, "MAX_CAPACITY", 8)
    with pytest.raises(InputError, match="is above 8; render a smaller image"):
        fit_capacity(cloud(30), camera())


def test_default_capacity_never_exceeds_everything_everywhere():
    assert default_capacity(5, 8, 16) == 10
    assert default_capacity(0, 8, 8) == 1
    assert default_capacity(16384, 64, 64) == 8 * 16384


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"splats": cloud(3).replace(features=jnp.zeros((3, 5, 3)))}, "coefficients=5"),
        ({"splats": cloud(3).replace(features=jnp.zeros((3, 4, 2)))}, "splats.features.shape"),
        ({"background": jnp.zeros(4)}, "background.shape"),
        ({"capacity": 0}, "capacity=0 is below 1"),
        ({"cameras": Cameras(jnp.eye(4), jnp.ones(4), 0, 5)}, "height=0 is below 1"),
        ({"cameras": Cameras(jnp.eye(4)[None], jnp.ones((1, 4)), 4, 5)}, "use render_views"),
    ],
)
def test_bad_input_says_what_to_do(change, message):
    arguments = {"splats": cloud(3), "cameras": camera(), **change}
    with pytest.raises(InputError, match=message):
        render(**arguments)


def test_views_need_a_view_axis_and_at_least_one_at_once():
    with pytest.raises(InputError, match="use render for one camera"):
        render_views(cloud(3), camera())
    views = Cameras(jnp.eye(4)[None], jnp.ones((1, 4)), 4, 5)
    with pytest.raises(InputError, match="views_at_once=0 is below 1"):
        render_views(cloud(3), views, views_at_once=0)


@pytest.mark.extended
def test_memory_is_no_product_of_gaussians_and_pixels():
    """A gradient at 4,000 Gaussians and 64x64 pixels: what dense evaluation would hold is 65 MB."""
    count, size = 4000, 64
    keys = jax.random.split(jax.random.key(0), 2)
    splats = Splats(
        mean=jax.random.uniform(keys[0], (count, 3), minval=-1) + jnp.array([[0.0, 0.0, 4.0]]),
        quaternion=jax.random.normal(keys[1], (count, 4)),
        scale=jnp.full((count, 3), 0.02),
        opacity=jnp.full(count, 0.5),
        features=jnp.full((count, 3), 0.5),
    )
    cameras = Cameras(jnp.eye(4), jnp.array([64.0, 64.0, 32.0, 32.0]), size, size)
    gradient = jax.jit(jax.grad(lambda s: jnp.sum(render(s, cameras).rgb)))
    memory = gradient.lower(splats).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 4 * count * size**2 / 8


@pytest.mark.extended
def test_rematerialised_views_keep_one_views_memory_and_the_gradient():
    """Residuals of a view are 8 bytes per slot and more: five further views add none of them."""
    count, size = 600, 32
    splats = cloud(count)
    poses = jnp.tile(jnp.eye(4), (6, 1, 1)).at[:, 0, 3].set(jnp.linspace(-0.2, 0.2, 6))
    intrinsics = jnp.tile(jnp.array([32.0, 32.0, 16.0, 16.0]), (6, 1))

    def gradient_of(views: int, remat: bool):
        cameras = Cameras(poses[:views], intrinsics[:views], size, size)

        def loss(splats):
            return jnp.sum(render_views(splats, cameras, capacity=16384, remat=remat).rgb ** 2)

        return jax.jit(jax.grad(loss)).lower(splats).compile()

    def mebibytes(compiled) -> float:
        return compiled.memory_analysis().temp_size_in_bytes / 2**20

    kept, again = gradient_of(6, False), gradient_of(6, True)
    assert mebibytes(kept) > 1.5 * mebibytes(again)
    assert mebibytes(again) < 1.2 * mebibytes(gradient_of(1, True))
    for ours, expected in zip(*(jax.tree.leaves(c(splats)) for c in (again, kept)), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5)
