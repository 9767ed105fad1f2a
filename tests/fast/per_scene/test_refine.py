import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tttlrm_jax.config import RasterConfig
from tttlrm_jax.core.errors import ConfigError, InputError
from tttlrm_jax.core.types import Gaussians
from tttlrm_jax.metrics.images import psnr
from tttlrm_jax.per_scene import FitConfig, fit_scene, loop, refine
from tttlrm_jax.per_scene.corrections import no_corrections
from tttlrm_jax.per_scene.loop import Schedule, Stepper, rates_at, scene_extent, start_state
from tttlrm_jax.per_scene.objective import RenderSettings, slopes_of_views, view_loss
from tttlrm_jax.per_scene.settings import LearningRates, RefineConfig
from tttlrm_jax.rasterize import render_views

BACKGROUND = (1.0, 0.5, 0.0)
RASTER = RasterConfig(near=0.1, backend="reference")


@pytest.fixture(scope="module")
def disturbed(truth):
    rng = np.random.default_rng(5)
    return truth.replace(
        mean=truth.mean + jnp.asarray(rng.normal(size=(20, 3)) * 0.03, jnp.float32),
        sh=truth.sh + jnp.asarray(rng.normal(size=(20, 1, 3)) * 0.3, jnp.float32),
    )


def unseen(gaussians, views):
    """PSNR of the last view, which no test refines on."""
    rendering = render_views(
        gaussians.activate(), views[4:].cameras, background=jnp.asarray(BACKGROUND), config=RASTER
    )
    return float(psnr(rendering.rgb, views.image[4:])[0])


def test_refinement_raises_psnr_on_a_view_it_did_not_see(disturbed, views):
    result = refine(
        disturbed, views[:4], RefineConfig(steps=10), raster=RASTER, background=BACKGROUND
    )
    assert len(result.losses) == 10
    assert result.losses[-1] < 0.7 * result.losses[0]
    assert unseen(result.gaussians, views) > unseen(disturbed, views) + 2


def test_no_steps_change_nothing(disturbed, views):
    config = RefineConfig(steps=0)
    result = refine(disturbed, views, config, raster=RASTER, background=BACKGROUND)
    assert result.gaussians is disturbed
    assert not len(result.losses)


def test_views_of_several_scenes_are_refused(disturbed, views):
    batch = jax.tree.map(lambda x: x[None], views)
    for fit in (
        lambda: refine(
            disturbed, batch, RefineConfig(steps=1), raster=RASTER, background=BACKGROUND
        ),
        lambda: fit_scene(batch, FitConfig(steps=1), raster=RASTER, background=BACKGROUND),
    ):
        with pytest.raises(InputError, match=r"is not \(view, height, width, 3\); give the views"):
            fit()


def test_broken_gaussians_stay_and_harm_no_other(disturbed, views):
    broken = disturbed.replace(mean=disturbed.mean.at[3].set(jnp.nan))
    config = RefineConfig(steps=10)
    result = refine(broken, views[:4], config, raster=RASTER, background=BACKGROUND)
    for old, new in zip(jax.tree.leaves(broken), jax.tree.leaves(result.gaussians), strict=True):
        np.testing.assert_array_equal(old[3], new[3])
        assert np.isfinite(np.delete(np.asarray(new), 3, axis=0)).all()
    assert result.losses[-1] < result.losses[0]


@pytest.mark.extended
def test_slopes_are_the_derivative_of_the_mean_loss(disturbed, views):
    settings = RenderSettings(background=BACKGROUND, raster=RASTER, capacity=4096, ssim_weight=0.2)

    def mean_loss(gaussians):
        shift = jnp.zeros((20, 2))
        return sum(view_loss(gaussians, shift, views[i], settings)[0] for i in (0, 1)) / 2

    loss, gradient = jax.jit(jax.value_and_grad(mean_loss))(disturbed)
    slopes = jax.jit(slopes_of_views, static_argnums=2)(disturbed, views[:2], settings)
    np.testing.assert_allclose(slopes.loss, loss, rtol=1e-5)
    for ours, exact in zip(
        jax.tree.leaves(slopes.gaussians), jax.tree.leaves(gradient), strict=True
    ):
        np.testing.assert_allclose(ours, exact, atol=1e-6)
    assert slopes.seen.max() == 2
    assert np.all((np.asarray(slopes.seen) > 0) | (np.asarray(slopes.pull) == 0))


@pytest.mark.extended
def test_steps_that_dropped_something_are_taken_again_with_room(disturbed, views):
    """Too little room at the start gives the result of enough room."""
    rates = RefineConfig().rates
    schedule = Schedule(rates=rates)
    tiled = dataclasses.replace(RASTER, backend="tiled")
    order = np.tile(np.arange(2, dtype=np.int32), (2, 1))

    def losses(capacity):
        settings = RenderSettings(
            background=BACKGROUND, raster=tiled, capacity=capacity, ssim_weight=0.2
        )  # fmt: skip
        stepper = Stepper(views[:2], schedule, settings)
        return stepper(start_state(disturbed, 1.0, 2), order)[1], stepper.settings.capacity

    wide, kept = losses(256)
    narrow, grown = losses(64)
    assert (kept, grown) == (256, 128) or grown == 256
    np.testing.assert_allclose(narrow, wide, rtol=1e-5)


@pytest.mark.extended
def test_steps_in_parts_are_those_of_one_program(disturbed, views, monkeypatch):
    """Drawn by two threads and by one, with masks, cameras and exposures."""
    tiled = dataclasses.replace(RASTER, backend="tiled")
    order = np.arange(4, dtype=np.int32)[:, None]
    valid = np.random.default_rng(0).uniform(size=views.image.shape[:3]) > 0.1
    views = views.replace(valid=jnp.asarray(valid))
    known = no_corrections(len(valid), cameras=True, exposure=True)
    state = start_state(disturbed, 1.0, 10).replace(corrections=known)

    def stepped(parts: int):
        monkeypatch.setattr(loop, "suitable_parts", lambda backend, capacity: parts)
        settings = RenderSettings(
            background=BACKGROUND, raster=tiled, capacity=256, ssim_weight=0.2
        )  # fmt: skip
        return Stepper(views, Schedule(rates=RefineConfig().rates), settings)(state, order)

    (ours, losses), (theirs, expected) = stepped(2), stepped(1)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    for got, wanted in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=2e-5)


def test_rates_decay_and_bands_join_in():
    rates = LearningRates(
        mean=1.0, colour=2.0, detail=3.0, log_scale=4.0, quaternion=5.0, opacity_logit=6.0,
        mean_end=0.01, other_end=0.5,
    )  # fmt: skip
    schedule = Schedule(rates=rates, sh_interval=5)
    bands = Gaussians(
        mean=jnp.zeros((1, 3)),
        sh=jnp.zeros((1, 9, 3)),
        log_scale=jnp.zeros((1, 3)),
        quaternion=jnp.ones((1, 4)),
        opacity_logit=jnp.zeros(1),
    )
    start = start_state(bands, 2.0, num_steps=11)

    def at(step):
        return rates_at(start.replace(step=jnp.asarray(step)), schedule)

    first, last = at(0), at(10)
    np.testing.assert_allclose((first.mean[0, 0], last.mean[0, 0]), (2.0, 0.02), rtol=1e-5)
    np.testing.assert_allclose(first.sh[0, :, 0], [2] + [0] * 8)
    np.testing.assert_allclose(last.sh[0, :, 0], [1] + [1.5] * 8, rtol=1e-5)
    np.testing.assert_allclose(at(5).sh[0, 4:, 0], 0)
    np.testing.assert_allclose(at(99).mean, last.mean)  # later steps are like the last one
    np.testing.assert_allclose((first.opacity_logit, last.opacity_logit), ([6], [3]), rtol=1e-5)
    rates = dataclasses.replace(rates, mean_end=1.0, other_end=1.0, mean_steps=5.0, other_steps=20)
    schedule = Schedule(rates=rates)  # fall with the steps, whatever the last one is
    for steps in (11, 1000):
        start = start.replace(num_steps=jnp.asarray(steps))
        np.testing.assert_allclose(at(10).mean, [[2.0 / 3]], rtol=1e-5)
        np.testing.assert_allclose(at(10).opacity_logit, [6 / 1.5**0.5], rtol=1e-5)


def test_extent_of_cameras_in_one_place_is_one():
    poses = np.tile(np.eye(4), (3, 1, 1))
    assert scene_extent(poses) == 1.0
    poses[0, 0, 3] = 3.0
    assert scene_extent(poses) == pytest.approx(2.2)


def test_bad_settings_are_named():
    with pytest.raises(ConfigError, match="steps=-1"):
        RefineConfig(steps=-1)
    with pytest.raises(ConfigError, match="ssim_weight=2"):
        RefineConfig(ssim_weight=2)
