"""Sorting and tile lists against straightforward NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tttlrm_jax.config import RasterConfig
from tttlrm_jax.core.arrays import on_device
from tttlrm_jax.rasterize import tile_lists
from tttlrm_jax.rasterize.backends import tiled
from tttlrm_jax.rasterize.compositing import ScreenSplats
from tttlrm_jax.rasterize.sorting import argsort_float32, argsort_uint32
from tttlrm_jax.rasterize.tile_lists import (
    CHUNK,
    TILE,
    Static,
    TileLists,
    build_tile_lists,
    candidate_slots,
    count_intersections,
    place_by_counting,
    place_by_sorting,
    tile_grid,
)

GSPLAT = RasterConfig()
BUILD = jax.jit(build_tile_lists, static_argnums=1)


@pytest.mark.parametrize("size", [0, 1, 2, 1000, 70_000])
def test_float_order_is_stable(size):
    rng = np.random.default_rng(size)
    key = rng.normal(size=size).astype(np.float32)
    key[rng.random(size) < 0.3] = 1.5
    key[rng.random(size) < 0.1] = np.inf
    key[rng.random(size) < 0.1] = -0.0
    key[rng.random(size) < 0.1] = 0.0
    order = jax.jit(argsort_float32)(jnp.asarray(key))
    np.testing.assert_array_equal(order, np.argsort(key, kind="stable"))


@pytest.mark.parametrize("num_bits", [1, 7, 31, 32])
def test_integer_order_is_stable(num_bits):
    key = np.random.default_rng(0).integers(0, 2**num_bits, 5000).astype(np.uint32)
    order = argsort_uint32(jnp.asarray(key), num_bits)
    np.testing.assert_array_equal(order, np.argsort(key, kind="stable"))


def random_splats(count: int, seed: int = 0, dtype=jnp.float32) -> ScreenSplats:
    """Ellipses of deviations 0.6 to 12 px, with boxes as tight as `project` makes them."""
    rng = np.random.default_rng(seed)
    angle = rng.uniform(0, np.pi, count)
    axes = np.exp(rng.uniform(np.log(0.6), np.log(12), (count, 2)))
    turn = np.stack([np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)], -1)
    root = turn.reshape(-1, 2, 2) * axes[:, None]
    covariance = root @ root.transpose(0, 2, 1)
    inverse = np.linalg.inv(covariance)
    opacity = rng.uniform(0.002, 1.0, count)
    reach = np.sqrt(2 * np.log(np.maximum(opacity * 255, 1)))
    deviation = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
    radius = np.ceil(reach[:, None] * deviation)
    return ScreenSplats(
        mean=on_device(rng.uniform(-10, 50, (count, 2)), dtype),
        conic=jnp.asarray(inverse.reshape(-1, 4)[:, [0, 1, 3]], dtype),
        opacity=jnp.asarray(opacity, dtype),
        feature=on_device(rng.normal(size=(count, 2)), dtype),
        depth=on_device(rng.integers(1, 9, count), dtype),
        radius=jnp.asarray(radius, jnp.int32),
    )


def expected_candidates(splats: ScreenSplats, height: int, width: int) -> list[list[int]]:
    """Per tile, in depth order, Gaussians whose box meets it."""
    rows, columns = tile_grid(height, width)
    lists = [[] for _ in range(rows * columns)]
    mean, radius = np.asarray(splats.mean), np.asarray(splats.radius)
    for i in np.argsort(np.asarray(splats.depth), kind="stable"):
        if np.all(radius[i] > 0):
            low, high = (mean[i] - radius[i]) / TILE, (mean[i] + radius[i]) / TILE
            for tile in range(rows * columns):
                corner = np.array([tile % columns, tile // columns])
                if np.all(high > corner) and np.all(low < corner + 1):
                    lists[tile].append(int(i))
    return lists


def peak_alpha(splats: ScreenSplats, width: int, i: int, tile: int, samples: int) -> float:
    """Largest alpha on a grid of points between the pixel centres of a tile."""
    _, columns = tile_grid(1, width)
    mean, conic = np.asarray(splats.mean[i], np.float64), np.asarray(splats.conic[i], np.float64)
    steps = np.linspace(0.5, TILE - 0.5, samples)
    x = tile % columns * TILE + steps[None] - mean[0]
    y = tile // columns * TILE + steps[:, None] - mean[1]
    sigma = 0.5 * (conic[0] * x * x + conic[2] * y * y) + conic[1] * x * y
    return float(splats.opacity[i]) * np.exp(-sigma.min())


def listed(lists: TileLists, num_gaussians: int) -> list[list[int]]:
    """The list of each tile; asserts what pads them."""
    gaussian = np.asarray(lists.gaussian)
    assert gaussian.shape[1] == CHUNK
    assert np.all(gaussian[-1] == num_gaussians)
    result = []
    for first, number in zip(lists.first_chunk, lists.num_chunks, strict=True):
        slots = gaussian[int(first) : int(first + number)].reshape(-1)
        length = int(np.sum(slots < num_gaussians))
        assert np.all(slots[length:] == num_gaussians)
        assert len(slots) - length < CHUNK
        result.append(slots[:length].tolist())
    return result


@pytest.mark.parametrize(("height", "width", "count"), [(30, 41, 90), (8, 8, 60), (1, 20, 60)])
def test_lists_hold_whoever_reaches_the_tile(height, width, count):
    """Whoever is visible at a pixel, in depth order; nobody who is visible nowhere in the tile."""
    splats = random_splats(count)
    candidates = expected_candidates(splats, height, width)
    total = sum(map(len, candidates))
    assert count_intersections(splats, height, width) == total
    lists = BUILD(splats, Static(height, width, total + 13, GSPLAT))
    actual = listed(lists, count)
    assert lists.num_dropped == 0
    assert total > sum(map(len, actual)) > 5
    splats = jax.tree.map(np.asarray, splats)
    for tile, among in enumerate(candidates):
        assert actual[tile] == [i for i in among if i in actual[tile]]
        for i in among:
            if i in actual[tile]:
                assert peak_alpha(splats, width, i, tile, 200) > 0.99 / 255
            else:
                assert peak_alpha(splats, width, i, tile, TILE) < 1 / 255


@pytest.mark.parametrize(
    ("count", "capacity", "side", "parts"),
    [(900, 40_000, 8, 1), (900, 3000, 16, 3), (900, 40_000, 8, 4), (1, 7, 8, 2)],
)
def test_counting_equals_sorting(count, capacity, side, parts):
    """The two ways to place slots, with and without overflow, in one part and in several."""
    static = Static(50, 70, capacity, GSPLAT, side, parts=parts)
    candidates = jax.jit(candidate_slots, static_argnums=1)(random_splats(count), static)
    actual = jax.jit(place_by_counting, static_argnums=1)(candidates, static)
    expected = jax.jit(place_by_sorting, static_argnums=1)(candidates, static)
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_nobody_drawn_is_empty_lists():
    splats = random_splats(5).replace(radius=jnp.zeros((5, 2), jnp.int32), conic=jnp.zeros((5, 3)))
    lists = BUILD(splats, Static(9, 17, 8, GSPLAT))
    assert np.all(lists.num_chunks == 0)
    assert np.all(lists.gaussian == 5)


def test_overflow_drops_the_farthest():
    count, capacity = 90, 300
    splats = random_splats(count)
    complete = listed(BUILD(splats, Static(30, 41, 5000, GSPLAT)), count)
    candidates = count_intersections(splats, 30, 41)
    lists = BUILD(splats, Static(30, 41, capacity, GSPLAT))
    assert lists.num_dropped == candidates - capacity > 0
    depth = np.asarray(splats.depth)
    kept = listed(lists, count)
    lost = [i for a, b in zip(complete, kept, strict=True) for i in a[len(b) :]]
    for partial, whole in zip(kept, complete, strict=True):
        assert partial == whole[: len(partial)]
    assert depth[lost].min() >= max(depth[tile].max() for tile in kept if tile)


def test_dropped_intersections_change_nothing(monkeypatch):
    """Images and gradients with the test of tiles equal those with all candidates."""
    height, width = 37, 45

    def loss(splats, bars):
        image = tiled.composite(splats, Static(height, width, 8192, GSPLAT))
        return jnp.sum(image.feature * bars[..., :2]) + jnp.sum(image.transmittance * bars[..., 2])

    with jax.enable_x64(True):
        splats = random_splats(150, seed=3, dtype=jnp.float64)
        bars = on_device(np.random.default_rng(0).normal(size=(height, width, 3)))
        run = jax.value_and_grad(loss, allow_int=True)
        value, grads = jax.jit(lambda *arguments: run(*arguments))(splats, bars)
        replaced = []
        monkeypatch.setattr(
            tile_lists, "_reaches", lambda c, column, row, side: replaced.append(1) or column >= 0
        )
        value_of_all, grads_of_all = jax.jit(lambda *arguments: run(*arguments))(splats, bars)
    assert replaced
    np.testing.assert_allclose(value, value_of_all, rtol=1e-12)
    for name in ("mean", "conic", "opacity", "feature"):
        wanted = getattr(grads_of_all, name)
        assert np.abs(wanted).max() > 0.1
        np.testing.assert_allclose(getattr(grads, name), wanted, rtol=1e-9, atol=1e-12)


def test_count_saturates_instead_of_wrapping():
    """300 Gaussians over 4096 x 4096 tiles are 5e9 intersections."""
    count = 300
    splats = random_splats(count)
    everywhere = splats.replace(radius=jnp.full((count, 2), 2**30, jnp.int32))
    side = 4096 * TILE
    counted = jax.jit(count_intersections, static_argnums=(1, 2))(everywhere, side, side)
    assert counted == 2**31 - 1
