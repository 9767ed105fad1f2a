"""What an improvement starts from: pictures that grow, and Gaussians that are as soft in them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tttlrm_jax.config import RasterConfig
from tttlrm_jax.core.types import Cameras, Views
from tttlrm_jax.metrics.images import psnr
from tttlrm_jax.per_scene.starts import rising, widened
from tttlrm_jax.rasterize import render_views


def enlarged(cameras, factor):
    return cameras.replace(
        intrinsics=cameras.intrinsics * factor,
        height=cameras.height * factor, width=cameras.width * factor,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("fine", "coarsest", "expected"),
    [
        ((64, 64), (64, 64), [(64, 64)]),
        ((256, 256), (64, 64), [(64, 64), (128, 128), (256, 256)]),
        ((360, 640), (48, 88), [(49, 86), (95, 169), (185, 329), (360, 640)]),
        ((40, 40), (64, 64), [(40, 40)]),  # no larger than they are
    ],
)
def test_each_side_about_doubles(fine, coarsest, expected):
    picture = np.random.default_rng(0).uniform(size=(2, *fine, 3)).astype("f")
    lenses = jnp.tile(jnp.asarray([[50.0, 40.0, fine[1] / 2, fine[0] / 3]]), (2, 1))
    views = Views(jnp.asarray(picture), Cameras(jnp.tile(jnp.eye(4), (2, 1, 1)), lenses, *fine))
    levels = rising(views, coarsest)
    sizes = [level.image.shape[1:3] for level in levels]
    assert len(sizes) == len(expected)
    assert np.abs(np.subtract(sizes, expected)).max() <= 4  # equal ratios, whole pixels
    assert levels[-1] is views
    for level, (height, width) in zip(levels, sizes, strict=True):
        assert (level.cameras.height, level.cameras.width) == (height, width)
        ratio = np.array([width / fine[1], height / fine[0]] * 2)
        np.testing.assert_allclose(level.cameras.intrinsics, lenses * ratio[None], rtol=1e-5)
        np.testing.assert_allclose(level.image.mean(), picture.mean(), atol=0.02)


def test_wider_gaussians_take_the_place_of_the_blur(truth, views):
    """At three times the size: as soft as the small pictures, by their own width."""
    fine, blur = enlarged(views.cameras, 3), 0.3

    @functools.partial(jax.jit, static_argnames="eps2d")
    def draw(gaussians, eps2d):
        config = RasterConfig(near=0.1, backend="reference", eps2d=eps2d)
        return render_views(gaussians.activate(), fine, config=config).rgb

    soft = draw(truth, 9 * blur)
    ours = draw(widened(truth, fine, views.cameras.height, blur), blur)
    assert float(psnr(ours, soft).mean()) > 35
    assert float(psnr(ours, soft).mean()) > float(psnr(draw(truth, blur), soft).mean()) + 5


def test_gaussians_of_the_same_size_stay(truth, views):
    same = widened(truth, views.cameras, views.cameras.height, 0.3)
    np.testing.assert_allclose(same.log_scale, truth.log_scale, atol=1e-6)


def test_reduced_pixels_are_what_all_of_them_is(views):
    """A pixel that something unknown is mixed into is not known."""
    valid = jnp.ones(views.image.shape[:3], bool).at[0, 0, 0].set(False)
    coarse, fine = rising(views.replace(valid=valid), (8, 10))
    assert fine.valid is valid
    assert not coarse.valid[0, 0, 0]
    assert bool(coarse.valid[0, 3:, 3:].all())
    assert bool(coarse.valid[1:].all())
