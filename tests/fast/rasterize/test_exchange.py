"""What a device puts into its buffers; tests/sharding has the exchange itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tttlrm_jax.core.arrays import on_device
from tttlrm_jax.rasterize.compositing import ScreenSplats
from tttlrm_jax.rasterize.exchange import Parts, _packed

NUM_GAUSSIANS = 40


@pytest.fixture
def screen() -> ScreenSplats:
    """Splats of which a third is not drawn; two of the others share a depth."""
    rng = np.random.default_rng(0)
    depth = rng.uniform(1, 9, NUM_GAUSSIANS).astype(np.float32)
    radius = np.full((NUM_GAUSSIANS, 2), 3, np.int32)
    radius[::3] = 0
    depth[[1, 20]] = np.sort(depth[radius[:, 0] > 0])[11]
    feature = np.concatenate([rng.uniform(size=(NUM_GAUSSIANS, 3)), depth[:, None]], axis=1)
    return ScreenSplats(
        mean=on_device(rng.normal(size=(NUM_GAUSSIANS, 2)), np.float32),
        conic=on_device(rng.normal(size=(NUM_GAUSSIANS, 3)), np.float32),
        opacity=on_device(rng.uniform(size=NUM_GAUSSIANS), np.float32),
        feature=jnp.asarray(feature, jnp.float32),
        depth=jnp.asarray(depth),
        radius=jnp.asarray(radius),
    )


@pytest.mark.parametrize("capacity", [1, 12, 26, 30, NUM_GAUSSIANS])
def test_the_nearest_are_packed_in_the_order_of_the_cloud(screen, capacity):
    numbers, radius, count = jax.jit(_packed, static_argnums=1)(screen, capacity)
    drawn = np.flatnonzero(np.asarray(screen.radius[:, 0]) > 0)
    order = drawn[np.argsort(np.asarray(screen.depth)[drawn], kind="stable")]
    expected = np.sort(order[:capacity])
    assert count == len(drawn) == 26
    rows = np.concatenate(
        [screen.mean, screen.conic, np.asarray(screen.opacity)[:, None], screen.feature], axis=1
    )
    np.testing.assert_array_equal(numbers[: len(expected)], rows[expected])
    np.testing.assert_array_equal(radius[: len(expected)], np.asarray(screen.radius)[expected])
    assert not np.asarray(numbers[len(expected) :]).any()
    assert not np.asarray(radius[len(expected) :]).any()


@pytest.mark.parametrize(("views", "devices", "bands"), [(8, 8, 1), (3, 8, 8), (8, 64, 8)])
def test_parts_hold_every_row_once(views, devices, bands):
    parts = Parts.of(views, 67, devices)
    images = np.random.default_rng(0).normal(size=(2, views, 67, 5, 3))
    cut = parts.cut(images)
    assert parts.bands == bands
    assert cut.shape[1] % devices == 0
    np.testing.assert_array_equal(parts.join(cut), images)
    assert cut.sum() == pytest.approx(images.sum())
