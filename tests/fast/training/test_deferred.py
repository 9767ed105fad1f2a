"""Views drawn again in the backward pass, in bands of rows: the same loss and gradients."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tttlrm_jax.config import DataConfig, LossConfig, RasterConfig, RunConfig, TrainConfig
from tttlrm_jax.core.errors import ConfigError, InputError
from tttlrm_jax.core.types import Cameras, Gaussians, Views
from tttlrm_jax.metrics.convolutions import Convolution
from tttlrm_jax.rasterize import render_views
from tttlrm_jax.training.losses.vgg_weights import CHANNELS
from tttlrm_jax.training.objectives.batches import Batch
from tttlrm_jax.training.objectives.gaussians import loss_terms, weighted_sum

SCENES, VIEWS, GAUSSIANS, HEIGHT, WIDTH = 2, 3, 40, 19, 16
PLAIN = RunConfig(
    name="plain",
    raster=RasterConfig(near=0.1, backend="reference"),
    data=DataConfig(background=(0.2, 0.4, 0.6)),
    loss=LossConfig(opacity=0.1, depth=0.0, mask=0.3),
)
ROUND_OFF = 2e-6  # of the largest entry: float32 sums in another order


def configured(config: RunConfig, bands: int | None) -> RunConfig:
    """With deferred rendering in so many bands; None: without."""
    if bands is None:
        return config
    train = TrainConfig(deferred_rendering=True, rendering_bands=bands)
    return dataclasses.replace(config, train=train)


def scene(height: int = HEIGHT, width: int = WIDTH, gaussians: int = GAUSSIANS, views: int = VIEWS):
    """(Gaussians, batch)."""
    rng = np.random.default_rng(0)
    shape = (SCENES, gaussians)
    cloud = Gaussians(
        mean=np.stack([rng.uniform(-1, 1, shape), rng.uniform(-1, 1, shape),
                       rng.uniform(2, 4, shape)], axis=-1),
        sh=rng.normal(size=(*shape, 4, 3)), log_scale=rng.uniform(-3, -1.5, (*shape, 3)),
        quaternion=rng.normal(size=(*shape, 4)), opacity_logit=rng.normal(size=shape),
    )  # fmt: skip
    pose = np.broadcast_to(np.eye(4), (SCENES, views, 4, 4)).copy()
    pose[..., 0, 3] = rng.uniform(-0.2, 0.2, (SCENES, views))
    lens = np.broadcast_to([width, width, width / 2, height / 2], (SCENES, views, 4))
    targets = Views(
        rng.random((SCENES, views, height, width, 3)), Cameras(pose, lens, height, width)
    )
    mask = rng.random((SCENES, views, height, width))
    batch = Batch(inputs=targets, targets=targets, target_mask=mask)
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), (cloud, batch))


def small_network() -> tuple[Convolution, ...]:
    """VGG-19 with a sixteenth of its channels."""
    rng = np.random.default_rng(1)
    widths = [3, *(channels // 16 for channels in CHANNELS[1:])]
    return tuple(
        Convolution(
            jnp.asarray(rng.normal(size=(3, 3, a, b)) * np.sqrt(2 / 9 / a), jnp.float32),
            jnp.zeros(b),
        )
        for a, b in itertools.pairwise(widths)
    )


def loss_of(config: RunConfig, batch: Batch, vgg19=None):
    def loss(cloud):
        terms, rendering = loss_terms(cloud, batch, config, jax.random.key(0), vgg19)
        return weighted_sum(terms, config.loss), (terms, rendering.num_dropped)

    return jax.jit(jax.value_and_grad(loss, has_aux=True))


def assert_same(ours, theirs) -> None:
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        scale = max(np.abs(b).max(), 1e-6)
        np.testing.assert_allclose(a, b, atol=ROUND_OFF * scale, rtol=0)


@functools.cache
def plain_result():
    cloud, batch = scene()
    return loss_of(PLAIN, batch)(cloud)


@pytest.mark.parametrize("bands", [pytest.param(1, marks=pytest.mark.extended), 3])
def test_loss_and_gradients_are_those_of_views_that_are_kept(bands):
    """19 rows in three bands: the last one is a row short."""
    cloud, batch = scene()
    (loss, (terms, dropped)), gradient = loss_of(configured(PLAIN, bands), batch)(cloud)
    (expected, (expected_terms, _)), expected_gradient = plain_result()
    assert not np.any(dropped)
    assert_same((loss, terms), (expected, expected_terms))
    assert_same(gradient, expected_gradient)
    assert np.abs(expected_gradient.mean).max() > 1e-4


@pytest.mark.extended
@pytest.mark.parametrize("backend", ["tiled", "balanced"])
def test_bands_of_other_backends(backend):
    cloud, batch = scene()
    raster = dataclasses.replace(PLAIN.raster, backend=backend)
    plain = dataclasses.replace(PLAIN, raster=raster)
    ours = loss_of(configured(plain, 2), batch)(cloud)
    (expected, _), expected_gradient = plain_result()
    np.testing.assert_allclose(ours[0][0], expected, rtol=1e-5)
    for a, b in zip(*map(jax.tree.leaves, (ours[1], expected_gradient)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5 * np.abs(b).max(), rtol=0)


@pytest.mark.extended
def test_the_perceptual_term_is_of_whole_pictures():
    """Drawn in bands, looked at whole: the term and its gradient do not change."""
    cloud, batch = scene()
    network = small_network()
    seeing = dataclasses.replace(
        PLAIN, loss=LossConfig(perceptual=0.5, opacity=0.0, depth=0.0, missing_vgg19="go_on")
    )
    (loss, _), gradient = loss_of(configured(seeing, 2), batch, network)(cloud)
    (expected, _), expected_gradient = loss_of(seeing, batch, network)(cloud)
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    for a, b in zip(*map(jax.tree.leaves, (gradient, expected_gradient)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5 * np.abs(b).max(), rtol=0)


@pytest.mark.extended
def test_memory_of_the_gradient_is_that_of_one_view():
    """XLA's own account of the compiled gradient: eight views of 96x96, with lists of tiles."""
    cloud, batch = scene(96, 96, 2000, 8)
    raster = dataclasses.replace(PLAIN.raster, backend="tiled")
    tiled = dataclasses.replace(PLAIN, raster=raster)

    def bytes_of(bands):
        compiled = loss_of(configured(tiled, bands), batch).lower(cloud).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    kept, deferred = bytes_of(None), bytes_of(1)
    assert deferred < 0.7 * kept


def test_bands_without_deferred_rendering_are_refused():
    with pytest.raises(ConfigError, match="rendering_bands=2 saves nothing while every band is"):
        TrainConfig(rendering_bands=2)


def test_more_bands_than_rows_are_refused():
    cloud, batch = scene()
    one = jax.tree.map(lambda x: x[0], cloud)
    cameras = jax.tree.map(lambda x: x[0], batch.targets.cameras)
    with pytest.raises(InputError, match=r"bands=20 is not in 1\.\.19, the rows; use fewer bands"):
        render_views(one.activate(), cameras, bands=20)
