import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from tttlrm_jax.api.scenes import (
    MAX_PSNR,
    PosedScene,
    Renderer,
    Settings,
    baseline_pictures,
    fitted_resolution,
    render_frames,
    score,
)
from tttlrm_jax.config import EvalConfig, RasterConfig, RunConfig, TrainConfig
from tttlrm_jax.core.geometry.poses import look_at, normalise_poses
from tttlrm_jax.core.types import Cameras, Gaussians, Views


@pytest.mark.parametrize(
    ("capture", "trained", "expected"),
    [
        ((512, 512), (64, 64), (64, 64)),
        ((360, 640), (64, 64), (48, 88)),
        ((640, 360), (64, 64), (88, 48)),
        ((540, 960), (536, 960), (536, 960)),
        ((10, 2000), (64, 64), (8, 904)),
    ],
)
def test_resolution_keeps_aspect_and_pixel_budget(capture, trained, expected):
    assert fitted_resolution(capture, trained, patch_size=8) == expected


def test_settings_come_from_the_run_unless_asked():
    run = RunConfig(name="x")
    trained = Settings.resolve(EvalConfig(), run)
    assert (trained.views, trained.plan, trained.keep_ratio) == (4, "full", 1.0)
    asked = Settings.resolve(EvalConfig(views=9, plan="sequential", keep_ratio=0.4, seed=3), run)
    assert (asked.views, asked.plan, asked.keep_ratio, asked.seed) == (9, "sequential", 0.4, 3)
    assert asked.background == run.data.background


def test_published_pruning_goes_by_the_number_of_views():
    run = RunConfig(name="x", train=TrainConfig(published_pruning=True))

    def shares(settings):
        return settings.keep_ratio, settings.random_ratio

    assert shares(Settings.resolve(EvalConfig(), run)) == (0.4, 0.1)
    many = EvalConfig(views=70)
    assert shares(Settings.resolve(many, run)) == (0.3, 0.05)
    assert shares(Settings.resolve(EvalConfig(views=70, keep_ratio=0.5), run)) == (0.5, 0.05)
    named = dataclasses.replace(Settings.resolve(EvalConfig(), run), views=70)  # by eval --frames
    assert shares(named.pruned_as_trained(EvalConfig(), run)) == (0.3, 0.05)
    asked = EvalConfig(keep_ratio=1.0, random_ratio=0.2)
    assert shares(named.pruned_as_trained(asked, run)) == (1.0, 0.2)
    saved = {"keep_ratio": 0.7, "random_ratio": 0.0}
    assert shares(Settings.resolve(many, run, saved)) == (0.7, 0.0)


def scene(mask=None):
    rng = np.random.default_rng(0)
    poses = look_at(rng.normal(size=(5, 3)) * 3, np.zeros(3), np.array([0.0, 0.0, 1.0]))
    poses, similarity = normalise_poses(poses)

    def views(where):
        count = len(poses[where])
        cameras = Cameras(
            jnp.asarray(poses[where], jnp.float32)[None], jnp.ones((1, count, 4)), 9, 12
        )
        image = jnp.asarray(rng.uniform(size=(1, count, 9, 12, 3)), jnp.float32)
        return Views(image, cameras)

    return PosedScene(
        name="scene", input_names=["a", "b", "c"], target_names=["d", "e"],
        inputs=views(slice(3)), targets=views(slice(3, 5)), target_mask=mask, similarity=similarity,
    )  # fmt: skip


def test_scores_per_view():
    mask = np.zeros((2, 9, 12), np.float32)
    mask[0, :4] = 1
    posed = scene(mask)
    target = np.asarray(posed.targets.image[0])
    picture = target.copy()
    picture[1] = np.clip(picture[1] + 0.1, 0, 1)
    picture[0, 5:] = 0  # outside the mask
    scores = score(picture, posed)
    assert scores.psnr.shape == scores.ssim.shape == (2,)
    assert scores.psnr[1] == pytest.approx(-10 * np.log10(((picture - target)[1] ** 2).mean()))
    assert scores.psnr_foreground[0] == MAX_PSNR
    assert np.isnan(scores.psnr_foreground[1])
    assert scores.lpips is None
    assert score(target, posed).psnr.tolist() == [MAX_PSNR, MAX_PSNR]


def test_baselines_have_the_shape_of_the_targets():
    posed = scene()
    pictures = baseline_pictures(posed)
    assert set(pictures) == {"mean_colour", "nearest_input"}
    inputs = np.asarray(posed.inputs.image[0])
    for picture in pictures.values():
        assert picture.shape == (2, 9, 12, 3)
    assert all(any((p == i).all() for i in inputs) for p in pictures["nearest_input"])


def test_frames_equal_views_whatever_the_portion():
    """Rendering seven frames three at a time gives the pictures of rendering them at once."""
    rng = np.random.default_rng(1)
    gaussians = Gaussians(
        mean=jnp.asarray(rng.normal(size=(30, 3)), jnp.float32),
        sh=jnp.asarray(rng.normal(size=(30, 1, 3)), jnp.float32),
        log_scale=jnp.full((30, 3), -1.0),
        quaternion=jnp.asarray(rng.normal(size=(30, 4)), jnp.float32),
        opacity_logit=jnp.full(30, 1.0),
    )
    poses = look_at(rng.normal(size=(7, 3)) * 5, np.zeros(3), np.array([0.0, 0.0, 1.0]))
    cameras = Cameras(
        jnp.asarray(poses, jnp.float32), jnp.tile(jnp.asarray([20.0, 20, 10, 8]), (7, 1)), 16, 20
    )
    config = RasterConfig(backend="reference")
    whole = Renderer(cameras, (1.0, 0.0, 0.5), config)(gaussians).value
    parts = list(render_frames(gaussians, cameras, (1.0, 0.0, 0.5), config, at_a_time=3))
    assert len(parts) == 7
    np.testing.assert_allclose(np.stack(parts), whole, atol=1e-6)
    assert whole.std(axis=(1, 2, 3)).min() > 0.01


def test_renderer_drops_nothing_in_scenes_after_the_first():
    """A scene with far more intersections than the one the program was made for."""
    rng = np.random.default_rng(2)
    pose = look_at(np.array([[0.0, -4.0, 0.0]]), np.zeros(3), np.array([0.0, 0.0, 1.0]))
    cameras = Cameras(
        jnp.asarray(pose, jnp.float32), jnp.asarray([[30.0, 30.0, 16.0, 16.0]]), 32, 32
    )

    def cloud(log_scale):
        return Gaussians(
            mean=jnp.asarray(rng.normal(size=(150, 3)), jnp.float32),
            sh=jnp.asarray(rng.normal(size=(150, 1, 3)), jnp.float32),
            log_scale=jnp.full((150, 3), log_scale),
            quaternion=jnp.asarray(rng.normal(size=(150, 4)), jnp.float32),
            opacity_logit=jnp.full(150, -3.0),
        )

    small, large = cloud(-5.0), cloud(0.0)
    black = (0.0, 0.0, 0.0)
    shared = Renderer(cameras, black, RasterConfig())
    results = [shared(scene) for scene in (small, large, small)]
    exact = Renderer(cameras, black, RasterConfig(backend="reference"))
    for result, scene in zip(results, (small, large, small), strict=True):
        np.testing.assert_allclose(result.value, exact(scene).value, atol=1e-4)
