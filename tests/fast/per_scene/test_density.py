import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tttlrm_jax.config import RasterConfig
from tttlrm_jax.core.errors import ConfigError
from tttlrm_jax.core.types import Gaussians
from tttlrm_jax.per_scene.density import GONE_LOGIT, densify, mean_pull, reset_opacity, with_room
from tttlrm_jax.per_scene.loop import start_state
from tttlrm_jax.per_scene.scratch import (
    densifies_at,
    fit_scene,
    neighbour_distance,
    random_points,
    resets_at,
    segments,
    view_order,
)
from tttlrm_jax.per_scene.settings import FitConfig

densify = jax.jit(densify, static_argnums=1)
CONFIG = FitConfig(gradient_threshold=0.1, split_above=0.1, prune_above=1.0, num_initial=4)
SMALL, LARGE, CALM, FAINT, HUGE, FREE = range(6)


def state(slots=8):
    """One Gaussian of each fate, then free slots."""
    log_scale = np.full((slots, 3), np.log(0.01), np.float32)
    log_scale[LARGE, 0], log_scale[HUGE, 1] = np.log(0.5), np.log(3.0)
    logit = np.full(slots, 2.0, np.float32)
    logit[FAINT] = -8.0
    rng = np.random.default_rng(0)
    gaussians = Gaussians(
        mean=jnp.asarray(rng.normal(size=(slots, 3)), jnp.float32),
        sh=jnp.asarray(rng.normal(size=(slots, 4, 3)), jnp.float32),
        log_scale=jnp.asarray(log_scale),
        quaternion=jnp.asarray(rng.normal(size=(slots, 4)), jnp.float32),
        opacity_logit=jnp.asarray(logit),
    )
    start = start_state(gaussians, 1.0, 1, jnp.arange(slots) < FREE)
    moments = start.moments._replace(mu=jax.tree.map(jnp.ones_like, gaussians))
    pull, seen = np.zeros(slots, np.float32), np.zeros(slots, np.int32)
    pull[[SMALL, LARGE]], seen[[SMALL, LARGE]] = (0.9, 3.0), (3, 2)
    return start.replace(moments=moments, pull=jnp.asarray(pull), seen=jnp.asarray(seen))


def test_gaussians_are_added_where_gradients_are_large_and_only_there():
    before = state()
    result = densify(before, CONFIG, jax.random.key(0))
    counts = [int(count) for count in result[1:]]
    assert counts == [1, 1, 2, 0]  # cloned, split, pruned, refused
    after = result.state
    assert int(after.alive.sum()) == 5  # 5 - 2 pruned + 2 born
    assert bool(after.alive[SMALL])
    assert bool(after.alive[CALM])
    for old, new in zip(
        jax.tree.leaves(before.gaussians), jax.tree.leaves(after.gaussians), strict=True
    ):
        np.testing.assert_array_equal(old[SMALL], new[SMALL])
        np.testing.assert_array_equal(old[CALM], new[CALM])
    assert not np.any(after.pull)
    assert not np.any(after.seen)
    np.testing.assert_allclose(mean_pull(before)[:3], [0.3, 1.5, 0], rtol=1e-6)


def test_a_clone_equals_its_original_and_halves_are_smaller_and_near():
    before = state()
    after = densify(before, CONFIG, jax.random.key(1)).state
    born = np.flatnonzero(np.asarray(after.alive) & ~np.asarray(before.alive))
    reused = [FAINT, HUGE]  # slots of what was pruned in the same call count as free
    born = np.concatenate([born, [s for s in reused if bool(after.alive[s])]]).astype(int)
    clone = [s for s in born if np.array_equal(after.gaussians.mean[s], before.gaussians.mean[0])]
    assert len(clone) == 1
    half = next(s for s in born if s != clone[0])
    shrink = before.gaussians.log_scale[LARGE] - np.log(CONFIG.split_factor)
    for slot in (half, LARGE):
        np.testing.assert_allclose(after.gaussians.log_scale[slot], shrink, rtol=1e-5)
        moved = after.gaussians.mean[slot] - before.gaussians.mean[LARGE]
        assert 0 < np.linalg.norm(moved) < 5 * 0.5
        np.testing.assert_array_equal(after.gaussians.sh[slot], before.gaussians.sh[LARGE])
        assert not np.any(after.moments.mu.mean[slot])  # Adam starts anew
    assert not np.any(after.moments.mu.mean[clone[0]])
    assert np.all(after.moments.mu.mean[SMALL] == 1)


def test_without_room_the_strongest_pull_comes_first_and_the_rest_is_counted():
    full = state(slots=6)
    full = full.replace(
        alive=jnp.ones(6, bool), gaussians=full.gaussians.replace(
            opacity_logit=full.gaussians.opacity_logit.at[FAINT].set(2.0)
        )
    )  # fmt: skip
    result = densify(full, CONFIG, jax.random.key(2))  # only HUGE makes room
    assert [int(count) for count in result[1:]] == [0, 1, 1, 1]
    np.testing.assert_array_equal(result.state.gaussians.mean[SMALL], full.gaussians.mean[SMALL])


def test_what_is_not_alive_is_not_drawn_and_opacities_fall():
    after = densify(state(), CONFIG, jax.random.key(0)).state
    opacity = jax.nn.sigmoid(after.gaussians.opacity_logit)
    assert np.all(opacity[~np.asarray(after.alive)] < 1 / 255)
    fallen = reset_opacity(after, CONFIG)
    assert float(jax.nn.sigmoid(fallen.gaussians.opacity_logit).max()) == pytest.approx(0.01)
    assert not np.any(fallen.moments.mu.opacity_logit)
    assert np.any(fallen.moments.mu.mean)


def test_schedule_of_a_fit():
    config = FitConfig(steps=1000, densify_every=100, reset_every=300, densify_from=200)
    assert segments(config)[:2] == [(0, 100), (100, 200)]
    assert segments(config)[-1] == (900, 1000)
    assert [s for _, s in segments(config) if densifies_at(s, config)] == [200, 300, 400, 500]
    assert [s for _, s in segments(config) if resets_at(s, config)] == [300]
    assert segments(FitConfig(steps=250))[-1] == (200, 250)
    order = view_order(3, FitConfig(steps=9))
    assert order.shape == (9, 1)
    for first in (0, 3, 6):
        assert sorted(order[first : first + 3, 0]) == [0, 1, 2]


def test_start_is_where_the_cameras_look_in_their_colours(views):
    points, colours = random_points(views, FitConfig(num_initial=50))
    assert np.linalg.norm(points, axis=1).max() < 1.2  # 2 * 8 / 16 is what they see
    assert 0 <= colours.min() <= colours.max() <= 1
    assert colours.std(axis=0).max() > 0.02


def test_size_at_the_start_is_the_mean_distance_of_three_neighbours():
    line = np.array([[0.0, 0, 0], [1, 0, 0], [2, 0, 0], [4, 0, 0], [100, 0, 0]])
    np.testing.assert_allclose(neighbour_distance(line)[:2], [7 / 3, 5 / 3], rtol=1e-5)
    cloud = np.random.default_rng(0).normal(size=(400, 3)).astype(np.float32)
    cloud[:2] = cloud[2]  # three in one place
    distance = np.linalg.norm(cloud[:, None] - cloud[None], axis=-1)
    expected = np.sort(distance, axis=1)[:, 1:4].mean(axis=1)
    found = neighbour_distance(cloud)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert neighbour_distance(cloud[:1]).tolist() == [np.float32(0.1)]
    np.testing.assert_allclose(neighbour_distance(line[2:4]), 2.0)


def test_a_fit_from_nothing_learns_the_scene(views):
    config = FitConfig(
        steps=150, num_initial=40, capacity=64, sh_degree=0, densify_every=50, densify_from=50,
        reset_every=1000,
    )  # fmt: skip
    raster = RasterConfig(near=0.1, backend="reference")
    result = fit_scene(views, config, raster=raster, background=(1.0, 0.5, 0.0))
    assert np.mean(result.losses[-10:]) < 0.5 * np.mean(result.losses[:10])
    assert len(result.losses) == 150
    grown = 40 + result.num_cloned + result.num_split - result.num_pruned
    assert len(result.gaussians.mean) == grown
    assert result.num_cloned + result.num_split > 0
    assert len(result.gaussians.mean) <= 64


def test_room_for_fewer_than_the_start_is_refused():
    with pytest.raises(ConfigError, match="num_initial=100"):
        FitConfig(num_initial=100, capacity=50)


def test_more_room_changes_no_gaussian():
    before = state()
    after = with_room(before, 20)
    assert {x.shape[0] for x in jax.tree.leaves((after.gaussians, after.moments.mu))} == {20}
    np.testing.assert_array_equal(after.alive, [*np.asarray(before.alive), *[False] * 12])
    assert (np.asarray(after.gaussians.opacity_logit[8:]) == GONE_LOGIT).all()
    for old, new in zip(
        *(jax.tree.leaves((x.gaussians, x.moments)) for x in (before, after)), strict=True
    ):
        np.testing.assert_array_equal(new[:8] if old.ndim else new, old)
    assert with_room(before, 8).gaussians.mean.shape == before.gaussians.mean.shape
