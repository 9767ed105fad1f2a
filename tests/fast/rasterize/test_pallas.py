"""The kernel: where it runs, that it lowers for CUDA, that interpreted it equals the reference."""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tttlrm_jax.config import RasterConfig
from tttlrm_jax.core.arrays import on_device
from tttlrm_jax.rasterize import ScreenSplats, composite
from tttlrm_jax.rasterize.backends import pallas, reference
from tttlrm_jax.rasterize.tile_lists import Static

GSPLAT = RasterConfig()
HOPPER = types.SimpleNamespace(platform="gpu", device_kind="H", compute_capability="9.0")


def cloud(count: int, channels: int, size: float, dtype=jnp.float32) -> ScreenSplats:
    rng = np.random.default_rng(0)
    cast = functools.partial(jnp.asarray, dtype=dtype)
    return ScreenSplats(
        mean=cast(rng.uniform(0, size, (count, 2))),
        conic=cast(rng.uniform([0.02, -0.01, 0.02], [0.1, 0.01, 0.1], (count, 3))),
        opacity=cast(rng.uniform(0, 1, count)),
        feature=cast(rng.normal(size=(count, channels))),
        depth=cast(rng.uniform(size=count)),
        radius=jnp.full((count, 2), 24, jnp.int32),
    )


def gradients(composite, splats: ScreenSplats, height: int, width: int):
    """(image, gradients of a random projection of it, by name)."""
    channels = splats.feature.shape[1]
    bar = on_device(np.random.default_rng(9).normal(size=(height, width, channels + 1)))

    def loss(parts):
        image = composite(splats.replace(**parts), Static(height, width, 128, GSPLAT))
        drawn = jnp.concatenate([image.feature, image.transmittance[..., None]], axis=-1)
        return jnp.sum(drawn * bar.astype(drawn.dtype)), drawn

    parts = {name: getattr(splats, name) for name in ("mean", "conic", "opacity", "feature")}
    return jax.value_and_grad(loss, has_aux=True)(parts)


def test_interpreted_kernel_equals_the_reference():
    """Two tiles; two chunks of one list, whose pixels become opaque in the second."""
    splats = cloud(40, 1, 16)
    arguments = (splats, 5, 21)
    expected = jax.jit(functools.partial(gradients, reference.composite), static_argnums=(1, 2))(
        *arguments
    )
    actual = jax.jit(
        functools.partial(gradients, pallas.composite_interpreted), static_argnums=(1, 2)
    )(*arguments)
    for got, wanted in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert np.abs(wanted).max() > 0
        np.testing.assert_allclose(got, wanted, rtol=0, atol=2e-5 * np.abs(wanted).max())


@pytest.mark.extended
def test_forward_mode_of_the_kernel():
    """Along a random direction, against the reference differentiated by JAX."""
    splats = cloud(20, 2, 16)
    names = ("mean", "conic", "opacity", "feature")
    parts = {name: getattr(splats, name) for name in names}
    rng = np.random.default_rng(3)
    dots = {k: jnp.asarray(rng.normal(size=v.shape), v.dtype) * 0.01 for k, v in parts.items()}

    def tangent(composite):
        def image(parts):
            drawn = composite(splats.replace(**parts), Static(5, 21, 128, GSPLAT))
            return drawn.feature, drawn.transmittance

        return jax.jit(lambda p, d: jax.jvp(image, (p,), (d,)))(parts, dots)

    actual, expected = map(tangent, (pallas.composite_interpreted, reference.composite))
    for got, wanted in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=0, atol=5e-5 * np.abs(wanted).max())


def test_kernels_lower_for_cuda():
    """Forward and backward, on a machine without a GPU: what Mosaic GPU can check before one."""
    run = functools.partial(gradients, pallas.composite_by_kernel)
    traced = jax.jit(run, static_argnums=(1, 2)).trace(cloud(40, 4, 40), 50, 61)
    text = traced.lower(lowering_platforms=("cuda",)).as_text()
    assert text.count("call @mosaic_gpu") + text.count("custom_call @mosaic_gpu") >= 2


@pytest.mark.parametrize(
    ("device", "splats", "reason"),
    [
        ({"platform": "tpu"}, cloud(3, 1, 8), "needs a GPU, not tpu"),
        ({"compute_capability": "8.0"}, cloud(3, 1, 8), "needs a Hopper GPU or later"),
        ({"compute_capability": "gfx942"}, cloud(3, 1, 8), "needs a Hopper GPU or later"),
        ({}, cloud(3, pallas.MAX_CHANNELS + 1, 8), "takes 32 channels, not 33"),
        ({}, cloud(3, 1, 8, jnp.float16), "for float32, not float16"),
        ({}, cloud(3, 1, 8), None),
    ],
)
def test_where_the_kernel_runs(monkeypatch, device, splats, reason):
    device = types.SimpleNamespace(**{**vars(HOPPER), **device})
    monkeypatch.setattr(pallas, "target_device", lambda: device)
    found = pallas.why_not(splats)
    assert found is None if reason is None else reason in found


def test_without_a_gpu_balanced_draws_and_says_so_once(caplog, monkeypatch):
    monkeypatch.setattr(pallas, "_said", set())
    splats = cloud(10, 3, 12)
    programs = [
        jax.make_jaxpr(
            lambda s, config: composite(s, 9, 12, config=config, capacity=64), static_argnums=1
        )(splats, RasterConfig(backend=backend))
        for backend in ("pallas", "pallas", "balanced", "tiled")
    ]
    assert str(programs[0]) == str(programs[1]) == str(programs[2]) != str(programs[3])
    assert caplog.messages == [
        "backend pallas: the kernel needs a GPU, not cpu; using balanced instead"
    ]


def test_without_an_interpreter_balanced_draws_and_says_so(caplog, monkeypatch):
    """As where a newer JAX has moved it: one place is gone, the other holds something else."""
    monkeypatch.setattr(pallas, "_said", set())
    monkeypatch.setattr(pallas, "INTERPRETERS", ("jax.no_such_module", "jax.numpy"))
    splats = cloud(10, 3, 12)
    programs = [
        jax.make_jaxpr(
            lambda s, config: composite(s, 9, 12, config=config, capacity=64), static_argnums=1
        )(splats, RasterConfig(backend=backend))
        for backend in ("pallas_interpret", "balanced")
    ]
    assert str(programs[0]) == str(programs[1])
    (message,) = caplog.messages
    assert "no InterpretGPUParams in jax.no_such_module or jax.numpy" in message
