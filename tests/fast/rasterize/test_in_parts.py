"""Pictures drawn in parts by several threads are those that one program draws."""

import dataclasses
import os
import subprocess
import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from tttlrm_jax.config import RasterConfig
from tttlrm_jax.core.arrays import on_device
from tttlrm_jax.rasterize import in_parts
from tttlrm_jax.rasterize.backends import tiled
from tttlrm_jax.rasterize.compositing import Composite, ScreenSplats
from tttlrm_jax.rasterize.in_parts import Done, Work, suitable_parts
from tttlrm_jax.rasterize.tile_lists import Static

COUNT = 60
DIFFERENTIATED = ("mean", "conic", "opacity", "feature")


class Screen(NamedTuple):
    mean: Array
    conic: Array
    opacity: Array
    feature: Array


def screen() -> Screen:
    rng = np.random.default_rng(4)
    deviation = rng.uniform(0.7, 5, COUNT)
    conic = np.stack([deviation**-2, 0 * deviation, deviation**-2], axis=1)
    return Screen(
        mean=on_device(rng.uniform(-4, 34, (COUNT, 2)), jnp.float32),
        conic=on_device(conic, jnp.float32),
        opacity=on_device(rng.uniform(0.05, 1.0, COUNT), jnp.float32),
        feature=on_device(rng.normal(size=(COUNT, 2)), jnp.float32),
    )


@dataclasses.dataclass(frozen=True)
class Weighed(Work):
    """A weighed sum of a picture. `given`: splats on the screen, and weights."""

    height: int
    width: int
    parts: int
    capacity: int = 2048

    def static(self, given):
        return Static(self.height, self.width, self.capacity, RasterConfig(), parts=self.parts)

    def num_gaussians(self, given):
        return COUNT

    def free(self, given):
        return {name: getattr(given[0], name) for name in DIFFERENTIATED}, given[1]

    def see(self, mine, shared, given):
        constant = jax.lax.stop_gradient(mine)
        radius = jnp.ceil(3.3 / jnp.sqrt(constant["conic"][:, ::2])).astype(jnp.int32)
        return ScreenSplats(**mine, depth=constant["mean"][:, 0], radius=radius)

    def loss(self, shared, given, made: Composite):
        total = jnp.sum(made.feature * shared[..., :2])
        return total + jnp.sum(made.transmittance * shared[..., 2])

    def finish(self, given, done: Done):
        return done


def both(work: Weighed):
    """(what `in_parts` makes of it, what one program does)."""
    size = (work.height, work.width, 3)
    weights = on_device(np.random.default_rng(5).normal(size=size), jnp.float32)
    given = (screen(), weights)

    def whole(mine, shared):
        made = tiled.composite(work.see(mine, None, given), work.static(given)._replace(parts=1))
        return work.loss(shared, given, made)

    expected = jax.jit(jax.value_and_grad(whole, argnums=(0, 1)))(*work.free(given))
    return in_parts.run(work, given), expected


@pytest.mark.parametrize(
    ("height", "width", "parts"),
    [
        (30, 17, 7),  # 12 tiles: parts of one and of two; 60 Gaussians: shares of nine overlap
        pytest.param(1, 1, 3, marks=pytest.mark.extended),  # more parts than tiles
        pytest.param(7, 5, 2, marks=pytest.mark.extended),
        pytest.param(8, 8, 2, marks=pytest.mark.extended),
        pytest.param(41, 33, 2, marks=pytest.mark.extended),
        pytest.param(8, 25, 1, marks=pytest.mark.extended),
    ],
)
def test_values_and_derivatives_are_those_of_one_program(height, width, parts, monkeypatch):
    monkeypatch.setattr(in_parts, "FEW_GAUSSIANS", 0)
    done, (value, (mine, shared)) = both(Weighed(height, width, parts))
    np.testing.assert_allclose(done.loss, value, rtol=1e-5)
    np.testing.assert_allclose(done.shared, shared, rtol=1e-6, atol=1e-6)
    for name in DIFFERENTIATED:
        assert np.abs(mine[name]).max() > 0
        np.testing.assert_allclose(done.mine[name], mine[name], rtol=1e-4, atol=2e-5)


@pytest.mark.extended
def test_what_does_not_fit_is_counted():
    done, (value, _) = both(Weighed(30, 17, 2, capacity=40))
    assert done.seen.num_dropped > 0
    np.testing.assert_allclose(done.loss, value, rtol=1e-5)


@pytest.mark.extended
def test_compiling_ahead_leaves_nothing_to_compile():
    work, given = Weighed(23, 15, 2), (screen(), jnp.ones((23, 15, 3)))
    in_parts.compile_ahead(work, given)
    compiled = []

    def listen(event: str, duration_secs: float, **details: str | int) -> None:
        if event.endswith("backend_compile_duration"):
            compiled.append(details)

    jax.monitoring.register_event_duration_secs_listener(listen)
    jax.block_until_ready(in_parts.run(work, given))
    jax.monitoring.unregister_event_duration_listener(listen)
    assert not compiled


def test_few_slots_and_other_backends_are_one_program():
    assert suitable_parts("tiled", 1000) == suitable_parts("balanced", 2**20) == 1
    assert 1 <= suitable_parts("auto", 2**20) <= 4
    with jax.enable_x64(True):
        assert suitable_parts("auto", 2**20) == 1


@pytest.mark.extended
def test_under_the_compiler_s_own_settings():
    """The flags of these tests compile kernels another way."""
    own = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    code = (
        "from tests.fast.rasterize.test_in_parts import *\n"
        "test_values_and_derivatives_are_those_of_one_program(41, 33, 2, pytest.MonkeyPatch())"
    )
    command = [sys.executable, "-c", code]
    subprocess.run(command, check=True, env=own | {"JAX_PLATFORMS": "cpu"}, timeout=300)
