"""The balanced backend: batches, alphas as matrix products, and how a backend is chosen."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tttlrm_jax.config import RasterConfig
from tttlrm_jax.core.arrays import on_device
from tttlrm_jax.rasterize import ScreenSplats, platform
from tttlrm_jax.rasterize.backends import balanced, chunks, tiled
from tttlrm_jax.rasterize.compositing import negative_log_falloff
from tttlrm_jax.rasterize.tile_lists import Static

HEIGHT, WIDTH = 19, 26
STATIC = Static(HEIGHT, WIDTH, 512, RasterConfig())


def crowd(seed: int, count: int = 150, dtype=jnp.float32) -> ScreenSplats:
    """Splats on the screen, most of them in one tile."""
    rng = np.random.default_rng(seed)
    spread = np.where(rng.uniform(size=(count, 1)) < 0.8, 1.5, 9.0)
    root = rng.normal(size=(count, 2, 2)) * 0.7
    covariance = root @ root.transpose(0, 2, 1) + 0.3 * np.eye(2)
    conic = np.linalg.inv(covariance)
    cast = functools.partial(jnp.asarray, dtype=dtype)
    return ScreenSplats(
        mean=cast(rng.normal(size=(count, 2)) * spread + [12, 4]),
        conic=cast(conic[:, [0, 0, 1], [0, 1, 1]]),
        opacity=cast(rng.uniform(0, 0.4, count)),
        feature=cast(rng.normal(size=(count, 3))),
        depth=cast(rng.uniform(size=count)),
        radius=jnp.asarray(np.ceil(3.4 * np.sqrt(covariance[:, [0, 1], [0, 1]])), jnp.int32),
    )


def value_and_gradients(composite, splats: ScreenSplats):
    """(image, gradients of a random projection of it, by name)."""
    bar = np.random.default_rng(9).normal(size=(HEIGHT, WIDTH, 4))

    def loss(parts):
        image = composite(splats.replace(**parts), STATIC)
        drawn = jnp.concatenate([image.feature, image.transmittance[..., None]], axis=-1)
        return jnp.sum(drawn * bar), drawn

    parts = {name: getattr(splats, name) for name in ("mean", "conic", "opacity", "feature")}
    return jax.value_and_grad(loss, has_aux=True)(parts)


def test_batches_and_joined_scenes_change_nothing(monkeypatch):
    """Three chunks at a time, so that a tile's list spans batches; scenes share them."""
    scenes = [crowd(seed, dtype=jnp.float32) for seed in range(2)]
    walked = jax.jit(functools.partial(value_and_gradients, tiled.composite))
    expected = jax.tree.map(lambda *x: jnp.stack(x), *(walked(scene) for scene in scenes))
    monkeypatch.setattr(balanced, "BATCH", 3 * 32 * 64)
    together = jax.tree.map(lambda *x: jnp.stack(x), *scenes)
    run = jax.vmap(functools.partial(value_and_gradients, balanced.composite))
    actual = jax.jit(run)(together)
    (_, image), _ = expected
    assert image[..., 3].min() < 0.01  # of the light is left where the crowd is
    for got, wanted in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        limit = 2e-5 * np.abs(wanted).max()
        np.testing.assert_allclose(got, wanted, rtol=0, atol=limit)


def direct_exponent(params, corner, side):
    """log opacity - sigma as the tiled backend has it, [tile, slot, pixel]."""
    y, x = (c.reshape(-1) + 0.5 for c in np.indices((side, side)))
    dx, dy = (
        mean[..., None] - (c[:, None] + offset[None])[:, None]
        for mean, c, offset in zip((params.mean_x, params.mean_y), corner, (x, y), strict=True)
    )
    conic = (c[..., None] for c in (params.conic_uu, params.conic_uv, params.conic_vv))
    sigma = negative_log_falloff(dx, dy, *conic)
    return jnp.where(sigma < 0, -jnp.inf, params.log_opacity[..., None] - sigma)


SHAPES = {  # deviations along and across, px; both before the 0.3 px^2 that projection adds
    "thin": (100.0, 0.1),
    "huge": (3000.0, 2000.0),
    "round": (2.0, 2.0),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_product_is_as_exact_as_the_direct_form(shape):
    """Largest error of alpha in float32 against float64, of centres within 2 deviations."""
    rng = np.random.default_rng(0)
    long, short = SHAPES[shape]
    count, corner = 300, 8.0
    angle = rng.uniform(0, np.pi, count)
    along = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    across = np.stack([-along[:, 1], along[:, 0]], axis=-1)
    variance = np.array([long, short]) ** 2 + 0.3
    axes = np.stack([along, across], axis=-1)
    conic = np.einsum("nij,j,nkj->nik", axes, 1 / variance, axes)
    distance = rng.uniform(-2, 2, (count, 2)) * np.sqrt(variance)
    mean = corner + rng.uniform(0, 8, (count, 2)) + np.einsum("nij,nj->ni", axes, distance)
    columns = [*mean.T, conic[:, 0, 0], conic[:, 0, 1], conic[:, 1, 1], np.log(np.full(count, 0.5))]

    def alpha(form, dtype):
        stored = (on_device(np.float32(column)[None], dtype) for column in columns)
        params = chunks.ChunkParams(*stored, features=())
        exponent = form(params, (jnp.full(1, corner, dtype), jnp.full(1, corner, dtype)), 8)
        return np.asarray(jnp.exp(exponent), np.float64).reshape(count, 64)

    with jax.enable_x64(True):
        exact = alpha(direct_exponent, jnp.float64)
    visible = exact > 1 / 255
    assert visible.mean() > 0.2
    error = {
        form: (np.abs(alpha(form, jnp.float32) - exact) / exact)[visible].max()
        for form in (direct_exponent, chunks.product_exponent)
    }
    allowed = max(2 * error[direct_exponent], 1e-5)
    assert error[chunks.product_exponent] <= allowed, error


def test_rounding_hides_no_centre():
    """sigma is 0 at the centre, where the product may round to less; an indefinite conic counts."""
    rng = np.random.default_rng(1)
    count = 2000
    mean = rng.uniform(0, 8, (2, 1, count))
    conic = [np.full((1, count), c) for c in (3.0, 1.0, 3.0)]
    params = chunks.ChunkParams(*map(jnp.float32, (*mean, *conic, np.zeros((1, count)))), ())
    corner = jnp.zeros(1), jnp.zeros(1)
    sure = chunks.product_exponent(params, corner, 8)
    assert np.isfinite(sure).all()
    assert sure.max() <= 0
    indefinite = params._replace(conic_uv=4 * params.conic_uv)
    np.testing.assert_array_equal(
        np.isneginf(chunks.product_exponent(indefinite, corner, 8)),
        np.isneginf(direct_exponent(indefinite, corner, 8)),
    )


def test_auto_is_tiled_on_cpu_and_balanced_elsewhere(monkeypatch):
    assert platform.chosen_backend("auto") == "tiled"
    assert platform.chosen_backend("pallas") == "pallas"
    with jax.default_device(jax.devices("cpu")[0]):
        assert platform.chosen_backend("auto") == "tiled"
    monkeypatch.setattr(platform, "target_device", lambda: type("Gpu", (), {"platform": "gpu"}))
    assert platform.chosen_backend("auto") == "balanced"
