"""Sorting and tile lists against straightforward NumPy."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tttlrm_jax.rasterize.compositing import ScreenSplats
from tttlrm_jax.rasterize.sorting import argsort_float32, argsort_uint32
from tttlrm_jax.rasterize.tile_lists import (
    TILE,
    build_tile_lists,
    count_intersections,
    tile_grid,
)


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


def random_splats(count: int, seed: int = 0) -> ScreenSplats:
    rng = np.random.default_rng(seed)
    radius = rng.integers(0, 12, (count, 2))
    radius[np.any(radius == 0, axis=1)] = 0
    return ScreenSplats(
        mean=jnp.asarray(rng.uniform(-10, 50, (count, 2)), jnp.float32),
        conic=jnp.ones((count, 3)),
        opacity=jnp.ones(count),
        feature=jnp.zeros((count, 1)),
        depth=jnp.asarray(rng.integers(1, 9, count), jnp.float32),
        radius=jnp.asarray(radius, jnp.int32),
    )


def expected_lists(splats: ScreenSplats, height: int, width: int) -> list[list[int]]:
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


@pytest.mark.parametrize(("height", "width"), [(30, 41), (8, 8), (1, 20)])
def test_lists_are_complete_and_in_order(height, width):
    splats = random_splats(60)
    expected = expected_lists(splats, height, width)
    total = sum(map(len, expected))
    assert total > 5
    assert count_intersections(splats, height, width) == total
    lists = build_tile_lists(splats, height, width, capacity=total + 13)
    start, gaussian = np.asarray(lists.start), np.asarray(lists.gaussian)
    actual = [gaussian[a:b].tolist() for a, b in itertools.pairwise(start)]
    assert actual == expected
    assert lists.num_dropped == 0


def test_overflow_drops_the_farthest():
    splats = random_splats(60)
    complete = expected_lists(splats, 30, 41)
    total = sum(map(len, complete))
    lists = build_tile_lists(splats, 30, 41, capacity=total // 2)
    assert lists.num_dropped == total - total // 2
    start, gaussian = np.asarray(lists.start), np.asarray(lists.gaussian)
    assert start[-1] == total // 2
    for tile, wanted in enumerate(complete):
        kept = gaussian[start[tile] : start[tile + 1]].tolist()
        assert kept == wanted[: len(kept)]


def test_count_saturates_instead_of_wrapping():
    """300 Gaussians over 4096 x 4096 tiles are 5e9 intersections."""
    count = 300
    splats = random_splats(count)
    everywhere = splats.replace(radius=jnp.full((count, 2), 2**30, jnp.int32))
    side = 4096 * TILE
    assert count_intersections(everywhere, side, side) == 2**31 - 1
