"""Scores of pictures, and baselines that need no model."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from tttlrm_jax.api.scenes import (
    MAX_PSNR,
    PosedScene,
    baseline_pictures,
    colour_aligned_psnr,
    score,
)
from tttlrm_jax.core.arrays import on_device
from tttlrm_jax.core.geometry.poses import look_at, normalise_poses
from tttlrm_jax.core.types import Cameras, Views


def scene(mask=None):
    rng = np.random.default_rng(0)
    poses = look_at(rng.normal(size=(5, 3)) * 3, np.zeros(3), np.array([0.0, 0.0, 1.0]))
    poses, similarity = normalise_poses(poses)

    def views(where):
        count = len(poses[where])
        cameras = Cameras(on_device(poses[where], np.float32)[None], jnp.ones((1, count, 4)), 9, 12)
        image = on_device(rng.uniform(size=(1, count, 9, 12, 3)), np.float32)
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
    assert scores.mean("lpips") is None
    assert scores.mean("psnr_foreground") == MAX_PSNR  # of the views that have one
    assert str(scores).startswith(f"PSNR {scores.psnr.mean():.2f} dB, SSIM ")
    assert score(target, posed).psnr.tolist() == [MAX_PSNR, MAX_PSNR]


def test_baselines_have_the_shape_of_the_targets():
    posed = scene()
    pictures = baseline_pictures(posed)
    assert set(pictures) == {"mean_colour", "nearest_input"}
    inputs = np.asarray(posed.inputs.image[0])
    for picture in pictures.values():
        assert picture.shape == (2, 9, 12, 3)
    assert all(any((p == i).all() for i in inputs) for p in pictures["nearest_input"])


def test_pixels_that_show_nothing_of_the_scene_do_not_count():
    valid = np.ones((2, 9, 12), bool)
    valid[0, :, :4] = False
    posed = dataclasses.replace(scene(), target_valid=valid)
    picture = np.clip(np.asarray(posed.targets.image[0]) + 0.1, 0, 1)
    other = picture.copy()
    other[0, :, :4] = 0.5
    ours, theirs = score(picture, posed), score(other, posed)
    np.testing.assert_array_equal(ours.psnr, theirs.psnr)
    np.testing.assert_array_equal(ours.ssim, theirs.ssim)
    expected = ((picture - np.asarray(posed.targets.image[0]))[0, :, 4:] ** 2).mean()
    assert ours.psnr[0] == pytest.approx(-10 * np.log10(expected))
    assert ours.psnr[1] == score(picture, scene()).psnr[1]


def test_gaussians_are_fitted_on_the_background_that_was_asked_for():
    white, posed = (1.0, 1.0, 1.0), scene()
    assert posed.fitted_on(white) == white
    free = dataclasses.replace(posed, background_free=True)
    np.testing.assert_allclose(free.fitted_on(white), posed.inputs.image[0].mean(axis=(0, 1, 2)))
    valid = np.zeros((3, 9, 12), bool)
    valid[:, 2:4] = True
    some = dataclasses.replace(free, input_valid=valid)
    expected = np.asarray(posed.inputs.image[0, :, 2:4]).mean(axis=(0, 1, 2))
    np.testing.assert_allclose(some.fitted_on(white), expected, rtol=1e-6)


def test_a_plain_backdrop_is_what_gaussians_are_fitted_on():
    """Nine of ten pixels at the edges are alike; pixels that do not show the scene do not count."""
    posed = dataclasses.replace(scene(), background_free=True)
    images = np.array(posed.inputs.image[0])
    plain, edge = np.asarray([0.2, 0.5, 0.9], np.float32), np.ones(images.shape[1:3], bool)
    edge[1:-1, 1:-1] = False
    images[:, edge] = plain + 0.005 * np.sign(images[:, edge] - 0.5)

    def found(images, valid=None):
        inputs = posed.inputs.replace(image=images[None])
        return dataclasses.replace(posed, inputs=inputs, input_valid=valid).fitted_on((1, 1, 1))

    np.testing.assert_allclose(found(images), plain, atol=0.006)
    seen = images.copy()
    seen[:, 0] = [0.9, 0.1, 0.1]  # something reaches beyond the upper edge
    np.testing.assert_allclose(found(seen), seen.mean(axis=(0, 1, 2)), rtol=1e-5)
    valid = np.ones(images.shape[:3], bool)
    valid[:, 0] = False
    np.testing.assert_allclose(found(seen, valid), plain, atol=0.006)


def test_colours_are_aligned_by_least_squares():
    mask = np.ones((2, 9, 12), np.float32)
    mask[:, :2] = 0
    posed = scene(mask)
    target = np.asarray(posed.targets.image[0])
    picture = np.where(mask[..., None] > 0, target * np.array([0.5, 0.8, 0.9]) + 0.05, target)
    assert (colour_aligned_psnr(picture, posed) > 60).all()
    assert (score(picture, posed).psnr < 30).all()
