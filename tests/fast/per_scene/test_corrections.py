"""Cameras that are a little off, and exposures, are found while the scene is fitted."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from tttlrm_jax.config import RasterConfig
from tttlrm_jax.core.geometry.poses import PoseNormalisation, look_at
from tttlrm_jax.core.types import Cameras, Gaussians, Views
from tttlrm_jax.per_scene import AnytimeConfig, improve
from tttlrm_jax.per_scene.corrections import (
    CORRECTION_RATES,
    Corrections,
    corrected,
    corrected_steps,
    exposed,
    fitted_exposure,
    nearest_similarity,
    no_corrections,
)
from tttlrm_jax.per_scene.objective import RenderSettings, slopes_of_views, view_loss
from tttlrm_jax.rasterize import Rendering, render_views

BACKGROUND, SIDE, NUM_VIEWS = (1.0, 0.5, 0.0), 32, 12
HOW = {"raster": RasterConfig(near=0.1), "background": BACKGROUND}
SETTINGS = RenderSettings(
    background=BACKGROUND, raster=RasterConfig(near=0.1, backend="reference"), capacity=64,
    ssim_weight=0.2,
)  # fmt: skip


@pytest.fixture(scope="module")
def scene():
    """Gaussians all around cameras that look at their middle, and the photographs of these."""
    rng = np.random.default_rng(3)
    gaussians = Gaussians(
        mean=jnp.asarray(rng.normal(size=(150, 3)) * 0.6, jnp.float32),
        sh=jnp.asarray(rng.normal(size=(150, 1, 3)), jnp.float32),
        log_scale=jnp.asarray(rng.uniform(-3.5, -2.0, (150, 3)), jnp.float32),
        quaternion=jnp.asarray(rng.normal(size=(150, 4)), jnp.float32),
        opacity_logit=jnp.full(150, 2.0),
    )
    centres = rng.normal(size=(NUM_VIEWS, 3))
    centres *= 2 / np.linalg.norm(centres, axis=1, keepdims=True)
    poses = look_at(centres, np.zeros(3), np.array([0.0, 0.0, 1.0]))
    lens = jnp.tile(jnp.asarray([[0.7 * SIDE, 0.7 * SIDE, SIDE / 2, SIDE / 2]]), (NUM_VIEWS, 1))
    cameras = Cameras(jnp.asarray(poses, jnp.float32), lens, SIDE, SIDE)
    draw = jax.jit(functools.partial(render_views, config=HOW["raster"]))
    rendering = draw(gaussians.activate(), cameras, background=jnp.asarray(BACKGROUND))
    moved = gaussians.mean + jnp.asarray(rng.normal(size=(150, 3)) * 0.02, jnp.float32)
    return Views(rendering.rgb, cameras), rendering, gaussians.replace(mean=moved)


def improved(views, start, steps=500, **options):
    fit = dataclasses.replace(
        AnytimeConfig().fit, steps=steps, num_initial=150, capacity=256, sh_degree=0
    )
    config = AnytimeConfig(seconds=1e5, fit=fit, **options)
    return improve([views], config, start=start, **HOW)


def errors(poses, truth):
    """Mean degrees and lengths from true poses, where the whole is nearest to these."""
    nearest = nearest_similarity(poses, truth).apply_poses(poses)
    turn = Rotation.from_matrix(np.swapaxes(truth[:, :3, :3], 1, 2) @ nearest[:, :3, :3])
    return (
        np.degrees(turn.magnitude()).mean(),
        np.linalg.norm(nearest[:, :3, 3] - truth[:, :3, 3], axis=1).mean(),
    )


@pytest.mark.extended
def test_cameras_come_back_and_views_held_back_get_better(scene):
    views, _, start = scene
    rng, truth = np.random.default_rng(5), np.asarray(views.cameras.world_from_camera, np.float64)
    given = truth.copy()
    given[:, :3, :3] @= Rotation.from_rotvec(rng.normal(size=(NUM_VIEWS, 3)) * 0.02).as_matrix()
    given[:, :3, 3] += rng.normal(size=(NUM_VIEWS, 3)) * 0.02
    pose = jnp.asarray(given, jnp.float32)
    wrong = views.replace(cameras=views.cameras.replace(world_from_camera=pose))
    plain, refined = (improved(wrong, start, refine_cameras=on) for on in (False, True))
    assert plain.photographs is None
    assert refined.best.psnr > plain.best.psnr + 6
    before, after = errors(given, truth), errors(refined.photographs.world_from_camera, truth)
    assert after[0] < 0.6 * before[0]
    assert after[1] < before[1]
    # of the cameras that were fitted the mean is where it was
    fitted = np.setdiff1d(np.arange(NUM_VIEWS), refined.held_back)
    back = nearest_similarity(refined.photographs.world_from_camera[fitted], given[fitted])
    np.testing.assert_allclose(back.rotation, np.eye(3), atol=1e-5)
    assert back.scale == pytest.approx(1, abs=1e-5)
    assert 0.3 < refined.photographs.turned.mean() < 4
    # the picture of the result from refined cameras is the photograph
    cameras = views.cameras.replace(
        world_from_camera=jnp.asarray(refined.photographs.world_from_camera, jnp.float32)
    )
    drawn = render_views(
        refined.gaussians.activate(), cameras, background=jnp.asarray(BACKGROUND),
        config=HOW["raster"],
    ).rgb  # fmt: skip
    error = np.asarray(((drawn - views.image) ** 2).mean(axis=(1, 2, 3)))
    assert (-10 * np.log10(error)).mean() > refined.best.psnr - 3


@pytest.mark.extended
def test_exposures_come_back(scene):
    views, rendering, start = scene
    gains = np.exp(np.random.default_rng(6).normal(size=(NUM_VIEWS, 3)) * 0.15)
    gains /= np.exp(np.log(gains).mean(axis=0))
    behind = (1 - np.asarray(rendering.alpha))[..., None] * np.asarray(BACKGROUND)
    image = (np.asarray(views.image) - behind) * gains[:, None, None] + behind
    varied = views.replace(image=jnp.asarray(np.clip(image, 0, 1), jnp.float32))
    plain, fitted = (improved(varied, start, exposure=on) for on in (False, True))
    assert fitted.best.psnr > plain.best.psnr + 6
    found = fitted.photographs
    assert np.abs(np.log(found.gain / gains)).mean() < 0.6 * np.abs(np.log(gains)).mean()
    others = np.setdiff1d(np.arange(NUM_VIEWS), fitted.held_back)
    np.testing.assert_allclose(np.log(found.gain[others]).mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(found.offset[others].mean(axis=0), 0, atol=1e-5)


@pytest.mark.extended
def test_without_views_held_back_cameras_are_refined_as_well(truth, views):
    """Two views and one step: nothing judges."""
    fit = dataclasses.replace(AnytimeConfig().fit, steps=1, num_initial=20, capacity=20)
    config = AnytimeConfig(fit=fit, refine_cameras=True, exposure=True)
    how = {"raster": SETTINGS.raster, "background": BACKGROUND}
    found = improve([views[:2]], config, start=truth, **how).photographs
    assert found is not None
    assert found.world_from_camera.shape == (2, 4, 4)
    assert found.gain.shape == found.offset.shape == (2, 3)


@pytest.mark.extended
def test_derivatives_of_corrections(truth, views):
    """Those of the loss, by differences; zero corrections change no value."""
    rng = np.random.default_rng(7)
    own = Corrections(
        camera=jnp.asarray(rng.normal(size=(2, 6)) * 0.02, jnp.float32),
        exposure=jnp.asarray(rng.normal(size=(2, 2, 3)) * 0.1, jnp.float32),
    )
    shift = jnp.zeros((20, 2))
    loss = jax.jit(lambda each: view_loss(truth, shift, views[0], SETTINGS, each)[0])
    slopes = jax.jit(slopes_of_views, static_argnums=2)(truth, views[:2], SETTINGS, own)
    for name, step in (("camera", 2e-3), ("exposure", 1e-2)):
        values = getattr(own, name)[0]
        direction = jnp.asarray(rng.normal(size=values.shape), jnp.float32)
        first = jax.tree.map(lambda x: x[0], own)
        ends = [loss(first.replace(**{name: values + sign * step * direction})) for sign in (1, -1)]
        expected = float(ends[0] - ends[1]) / (2 * step)
        ours = float(jnp.sum(getattr(slopes.corrections, name)[0] * direction))
        assert ours == pytest.approx(expected, rel=0.05, abs=2e-4)
    none = jax.tree.map(jnp.zeros_like, jax.tree.map(lambda x: x[0], own))
    np.testing.assert_allclose(loss(none), loss(None), atol=1e-6)


@pytest.mark.extended
def test_exposure_of_least_squares():
    """What a photograph was made with; behind the scene there is no exposure."""
    rng = np.random.default_rng(8)
    alpha = np.where(rng.uniform(size=(9, 9)) < 0.3, 0.0, rng.uniform(0.5, 1, size=(9, 9)))
    scene = alpha[..., None] * rng.uniform(size=(9, 9, 3))
    rgb = scene + (1 - alpha)[..., None] * np.asarray(BACKGROUND)
    none = jnp.zeros((), jnp.int32)
    rendering = Rendering(jnp.asarray(rgb), jnp.asarray(alpha), jnp.asarray(alpha), none, none)
    own = Corrections(exposure=jnp.asarray([[0.2, -0.1, 0.05], [0.01, 0.0, -0.02]]))
    picture = exposed(rendering, BACKGROUND, own)
    np.testing.assert_allclose(picture[alpha == 0], rgb[alpha == 0], atol=1e-6)
    assert exposed(rendering, BACKGROUND, None) is rendering.rgb
    valid = jnp.ones((9, 9), bool).at[0].set(False)
    cameras = Cameras(jnp.eye(4), jnp.ones(4), 9, 9)
    view = Views(picture.at[0].set(0.5), cameras, valid)
    found = fitted_exposure(rendering, BACKGROUND, view)
    np.testing.assert_allclose(found, own.exposure, atol=0.02)


def test_only_views_of_a_step_move(views):
    state = no_corrections(5, cameras=True, exposure=True)
    assert no_corrections(5, cameras=False, exposure=False) is None
    slopes = jax.tree.map(lambda x: jnp.ones_like(x[:1]), state.values)
    new = corrected_steps(
        state, slopes, jnp.asarray([3]), CORRECTION_RATES, jnp.asarray(2.0), jnp.asarray(0.0)
    )
    moved = np.abs(np.asarray(new.values.camera)).max(axis=1)
    np.testing.assert_allclose(moved, [0, 0, 0, 2 * CORRECTION_RATES.move, 0], rtol=1e-5)
    np.testing.assert_allclose(np.asarray(new.values.exposure).mean(axis=0), 0, atol=1e-8)
    assert new.moments.count.tolist() == [0, 0, 0, 1, 0]
    broken = jax.tree.map(lambda x: x * jnp.nan, slopes)
    kept = corrected_steps(
        state, broken, jnp.asarray([3]), CORRECTION_RATES, jnp.asarray(2.0), jnp.asarray(0.0)
    )
    np.testing.assert_array_equal(kept.values.camera, state.values.camera)


def test_cameras_turn_in_their_own_axes(views):
    own = Corrections(camera=jnp.asarray([0.0, 0.02, 0.0, 0.1, 0.0, 0.0]))
    camera, new = views.cameras[0], corrected(views.cameras[0], own)
    change = np.linalg.inv(camera.world_from_camera) @ np.asarray(new.world_from_camera)
    turn = Rotation.from_euler("y", 0.02).as_matrix()
    np.testing.assert_allclose(change[:3, :3], turn, atol=1e-5)
    np.testing.assert_allclose(change[:3, 3], [0.1, 0, 0], atol=1e-6)
    assert corrected(camera, None) is camera


def test_all_cameras_moved_alike_are_brought_back(views):
    given = np.asarray(views.cameras.world_from_camera, np.float64)
    turn = Rotation.from_euler("xyz", [0.2, -0.1, 0.3]).as_matrix()
    away = PoseNormalisation(rotation=turn, translation=np.array([1.0, 2, 3]), scale=1.7)
    back = nearest_similarity(away.apply_poses(given), given)
    np.testing.assert_allclose(back.apply_poses(away.apply_poses(given)), given, atol=1e-6)
    alone = nearest_similarity(given[:1], given[:1])
    assert alone.scale == 1.0
