"""Room for Gaussians: as many as are wanted or as memory allows; what is refused is counted."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tttlrm_jax.config import RasterConfig
from tttlrm_jax.core.errors import ConfigError, InputError
from tttlrm_jax.core.types import Cameras, Gaussians, Views
from tttlrm_jax.per_scene import AnytimeConfig, improve
from tttlrm_jax.per_scene.loop import Schedule, _segment, start_state
from tttlrm_jax.per_scene.memory import FEWEST, GIB, bytes_needed, room_for, within_limits
from tttlrm_jax.per_scene.objective import RenderSettings
from tttlrm_jax.per_scene.settings import anytime_config, degree_for, with_degree
from tttlrm_jax.rasterize.render import MAX_CAPACITY

HOW = {"raster": RasterConfig(near=0.1, backend="reference"), "background": (1.0, 0.5, 0.0)}
FIT = dataclasses.replace(AnytimeConfig().fit, steps=60, num_initial=20, capacity=64)


def test_a_limit_leaves_room_for_fewer(views):
    free = room_for(10**6, 8, 2, views, None)
    assert (free.num_gaussians, free.slots, free.most_slots) == (10**6, 8 * 10**6, MAX_CAPACITY)
    limited = room_for(10**6, 8, 2, views, 0.5)
    assert FEWEST < limited.num_gaussians < 10**6
    assert 0.99 < limited.num_bytes / (0.5 * GIB) <= 1
    assert limited.most_slots == 2 * limited.slots == 16 * limited.num_gaussians
    assert room_for(10**6, 8, 3, views, 0.5).num_gaussians < limited.num_gaussians
    ample = room_for(1000, 8, 2, views, 4.0)
    assert ample.num_gaussians == 1000
    assert bytes_needed(1000, ample.most_slots, 2, views) <= 4 * GIB
    assert ample.most_slots > 16 * 1000


def test_too_little_memory_is_refused(views):
    with pytest.raises(InputError, match=r"memory_limit=1e-06 GiB is too little for 64 Gaussians"):
        room_for(10**6, 8, 2, views, 1e-6)
    for wrong in (0.0, -1.0, float("nan")):
        with pytest.raises(ConfigError, match="memory_limit"):
            anytime_config(1.0, memory_limit=wrong)
    with pytest.raises(ConfigError, match="max_gaussians=0 is below 1"):
        anytime_config(1.0, max_gaussians=0)


@pytest.mark.extended
@pytest.mark.parametrize(
    ("count", "side", "slots", "degree"),
    [(16_384, 256, 131_072, 2), (131_072, 64, 1_048_576, 3), (64, 256, 512, 0)],
)
def test_the_estimate_is_near_what_the_compiled_step_takes(count, side, slots, degree):
    """XLA's own figures for one step on twelve pictures, beside the states that are kept."""
    num_views = 12
    zeros = jnp.zeros((count, 3))
    gaussians = Gaussians(
        mean=zeros, sh=jnp.zeros((count, (degree + 1) ** 2, 3)), log_scale=zeros,
        quaternion=jnp.ones((count, 4)), opacity_logit=jnp.zeros(count),
    )  # fmt: skip
    cameras = Cameras(jnp.tile(jnp.eye(4), (num_views, 1, 1)), jnp.ones((num_views, 4)), side, side)
    views = Views(jnp.zeros((num_views, side, side, 3)), cameras)
    settings = RenderSettings(
        background=(1.0, 1.0, 1.0), raster=RasterConfig(), capacity=slots, ssim_weight=0.2
    )
    compiled = _segment.lower(
        start_state(gaussians, 1.0, 100), views, jnp.zeros((100, 1), jnp.int32), jnp.int32(1),
        schedule=Schedule(rates=FIT.rates, sh_interval=1), settings=settings,
    ).compile().memory_analysis()  # fmt: skip
    taken = compiled.argument_size_in_bytes + compiled.output_size_in_bytes * 2
    taken += compiled.temp_size_in_bytes + 1.4 * views.image.nbytes
    assert 0.8 < bytes_needed(count, slots, degree, views) / taken < 1.7


@pytest.mark.extended
def test_what_there_is_no_room_for_is_counted(truth, views):
    """Half of the Gaussians are there; others are wanted everywhere."""
    fit = dataclasses.replace(
        FIT, steps=20, capacity=10, num_initial=10, densify_from=10, densify_every=10,
        gradient_threshold=0.0,
    )  # fmt: skip
    some = jax.tree.map(lambda x: x[:10], truth)
    full = improve([views], AnytimeConfig(seconds=1e4, fit=fit), start=some, **HOW)
    assert full.room.num_gaussians == 10
    assert 5 < full.num_refused <= 10
    assert full.best.num_gaussians <= 10
    more = dataclasses.replace(fit, capacity=64, densify_until=0.5)
    assert (
        improve([views], AnytimeConfig(seconds=1e4, fit=more), start=some, **HOW).num_refused == 0
    )


def test_degrees_follow_the_number_of_views(truth, views):
    assert [degree_for(count) for count in (1, 2, 3, 5, 6, 63, 64, 400)] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert with_degree(FIT, 12).sh_degree == 2
    assert with_degree(dataclasses.replace(FIT, sh_degree=3), 1).sh_degree == 3
    fit = dataclasses.replace(FIT, steps=0)
    result = improve([views[:2]], AnytimeConfig(fit=fit), start=truth, **HOW)
    assert (result.sh_degree, result.gaussians.sh.shape[1]) == (0, 1)
    np.testing.assert_array_equal(result.gaussians.sh.shape[::2], (20, 3))


def test_few_pixels_have_room_for_few(views):
    """One Gaussian for so many pixels of the fitted views, unless a number is asked for."""
    assert anytime_config(1.0).pixels_per_gaussian == 10
    assert anytime_config(1.0, max_gaussians=20_000).pixels_per_gaussian is None
    pixels = 7 * views.image.shape[1] * views.image.shape[2]
    config, room = within_limits(AnytimeConfig(pixels_per_gaussian=pixels / 12), views, 7)
    assert (room.num_gaussians, room.wanted, config.fit.capacity) == (12, 12, 12)
    config, room = within_limits(AnytimeConfig(pixels_per_gaussian=None), views, 7)
    assert room.wanted == AnytimeConfig().fit.capacity
