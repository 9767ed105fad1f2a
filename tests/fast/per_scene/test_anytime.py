"""Improving until time is over: what is fitted, what judges, what is kept."""

import dataclasses
import threading

import jax
import jax.monitoring
import jax.numpy as jnp
import numpy as np
import pytest

from tttlrm_jax.config import RasterConfig
from tttlrm_jax.core.errors import ConfigError, InputError
from tttlrm_jax.per_scene import AnytimeConfig, FitConfig, improve
from tttlrm_jax.per_scene.anytime import _Run
from tttlrm_jax.per_scene.starts import MOST_HELD_BACK, some_of, split_views

HOW = {"raster": RasterConfig(near=0.1, backend="reference"), "background": (1.0, 0.5, 0.0)}
FIT = dataclasses.replace(AnytimeConfig().fit, steps=30, num_initial=20, capacity=64)
LONG = AnytimeConfig(seconds=1e4, fit=FIT)  # ends with its steps


@pytest.fixture(scope="module")
def disturbed(truth):
    moved = np.random.default_rng(5).normal(size=(20, 3)) * 0.05
    return truth.replace(mean=truth.mean + jnp.asarray(moved, jnp.float32))


@pytest.fixture(scope="module")
def improved(disturbed, views):
    return improve([views], LONG, start=disturbed, **HOW)


def test_the_best_moment_on_views_held_back_is_kept(improved):
    first, *_, last = improved.moments
    assert improved.ended == "steps"
    assert (first.step, last.step, len(improved.losses)) == (0, 30, 30)
    assert improved.best.psnr == max(moment.psnr for moment in improved.moments)
    assert improved.best.psnr > first.psnr + 1
    assert improved.held_back == (2,)
    assert len(improved.gaussians.mean) == improved.best.num_gaussians == 20
    assert improved.seconds > 0


def test_views_held_back_only_judge(improved, disturbed, views):
    other = views.replace(image=views.image.at[2].multiply(0.9))
    result = improve([other], LONG, start=disturbed, **HOW)
    np.testing.assert_allclose(result.losses, improved.losses, rtol=1e-5)
    assert result.moments[0].psnr != improved.moments[0].psnr


def test_pixels_that_do_not_show_the_scene_change_nothing(disturbed, views):
    """Neither in steps nor on views held back, whatever is in them."""
    valid = jnp.ones(views.image.shape[:3], bool).at[:, :, 12:].set(False)
    results = [
        improve(
            [views.replace(image=views.image.at[:, :, 12:].set(junk), valid=valid)],
            LONG, start=disturbed, **HOW,
        )
        for junk in (0.0, 0.7)
    ]  # fmt: skip
    for first, second in zip(*(result.moments for result in results), strict=True):
        assert first.psnr == second.psnr
    np.testing.assert_array_equal(*(result.losses for result in results))
    np.testing.assert_array_equal(*(result.gaussians.mean for result in results))
    assert results[0].best.psnr > results[0].moments[0].psnr


def test_an_interrupt_keeps_what_is_there(disturbed, views):
    def stop_at_the_second(moment, best):
        assert len(best.mean) == FIT.capacity
        if moment.step:
            raise KeyboardInterrupt

    result = improve([views], LONG, start=disturbed, on_moment=stop_at_the_second, **HOW)
    assert result.ended == "interrupted"
    assert len(result.moments) == 2
    assert len(result.losses) == 10
    assert len(result.gaussians.mean) == 20


def test_an_interrupt_before_the_first_look_gives_the_start(disturbed, views, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(_Run, "_look", interrupt)
    result = improve([views], LONG, start=disturbed, **HOW)
    assert (result.ended, result.moments, result.best.psnr) == ("interrupted", (), None)
    np.testing.assert_allclose(
        np.sort(result.gaussians.mean, axis=0), np.sort(disturbed.mean, axis=0)
    )


def test_time_ends_it(disturbed, views):
    result = improve([views], dataclasses.replace(LONG, seconds=1e-3), start=disturbed, **HOW)
    assert result.ended == "seconds"
    assert len(result.losses) < 30


@pytest.fixture
def compiled():
    """(program, thread) of everything that is compiled from here on."""
    found = []

    def listen(event: str, duration_secs: float, **details: str | int) -> None:
        if event.endswith("backend_compile_duration"):
            found.append((details.get("fun_name", ""), threading.current_thread()))

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield found
    jax.monitoring.unregister_event_duration_listener(listen)


def test_pictures_grow(disturbed, views, compiled):
    """The first moments are at the coarse resolution, the result at the fine one; the steps of both
    were compiled before, side by side."""
    half = 2 * (views.image.shape[1] // 4), 2 * (views.image.shape[2] // 4)
    cameras = views.cameras
    coarse = views.replace(
        image=jax.image.resize(views.image, (len(views.image), *half, 3), "linear"),
        cameras=cameras.replace(
            intrinsics=cameras.intrinsics * half[0] / cameras.height, height=half[0], width=half[1]
        ),
    )
    config = dataclasses.replace(LONG, seconds=1.0, level_share=1e-9, fit=FIT)
    result = improve([coarse, views], config, start=disturbed, **HOW)
    fine = tuple(views.image.shape[1:3])
    assert [result.moments[0].size, result.moments[-1].size] == [half, fine]
    by_steps = dataclasses.replace(
        config, seconds=1e4, level_share=0.9, level_steps=10, pixels_per_gaussian=16.0
    )  # room for 22 and for 64 of them
    grown = improve([coarse, views], by_steps, start=disturbed, **HOW)
    assert len(grown.gaussians.mean) == grown.best.num_gaussians
    counted = grown.moments
    assert [moment.size == half for moment in counted] == [moment.step <= 10 for moment in counted]

    def stop(moment, best):
        if moment.step:
            raise KeyboardInterrupt

    early = improve([coarse, views], by_steps, start=disturbed, on_moment=stop, **HOW)
    assert {moment.size for moment in early.moments} == {half}  # with fewer slots than the result
    assert len(early.gaussians.mean) == early.best.num_gaussians
    threads = [thread for name, thread in compiled if "_segment" in name]
    assert threads
    assert threading.main_thread() not in threads


def test_without_a_prediction_it_starts_at_random(views):
    result = improve([views], LONG, **HOW)
    assert result.moments[0].num_gaussians == 20
    assert result.best.psnr > result.moments[0].psnr


def test_two_views_hold_nothing_back(disturbed, views):
    result = improve([views[:2]], LONG, start=disturbed, **HOW)
    assert result.held_back == ()
    assert {moment.psnr for moment in result.moments} == {None}
    assert result.best == result.moments[-1]


def test_which_views_are_held_back():
    for count in (1, 2, 3, 8, 16, 48, 200):
        fitted, held = split_views(count, 0.125)
        assert sorted([*fitted, *held]) == list(range(count))
        assert len(held) == (0 if count < 3 else min(max(1, count // 8), MOST_HELD_BACK))
        assert len(set(np.diff(held))) <= 2  # evenly among all
    assert len(split_views(16, 0.0)[1]) == 0
    assert len(split_views(3, 0.9)[0]) == 2  # two at least are fitted


def test_what_cannot_be_improved_is_refused(disturbed, views):
    gone = disturbed.replace(opacity_logit=jnp.full(20, -jnp.inf))
    with pytest.raises(InputError, match="transparent or not finite; start from nothing"):
        improve([views], LONG, start=gone, **HOW)
    with pytest.raises(InputError, match="one scene"):
        improve([jax.tree.map(lambda x: x[None], views)], LONG, start=disturbed, **HOW)
    for seconds in (0, -1.0, float("nan")):
        with pytest.raises(ConfigError, match="seconds"):
            AnytimeConfig(seconds=seconds)
    with pytest.raises(ConfigError, match="num_kept=0"):
        AnytimeConfig(num_kept=0, fit=FitConfig())


def test_a_prediction_that_shows_nothing_is_not_the_start(disturbed, views):
    """Gaussians far from all that is to be seen: points are better, where there are some."""
    hidden = disturbed.replace(mean=disturbed.mean + 50.0)
    config = dataclasses.replace(LONG, fit=dataclasses.replace(FIT, steps=1))
    points = np.asarray(disturbed.mean), np.full((20, 3), 0.5, np.float32)
    started = {
        improve([views], config, start=start, points=given, **HOW).start
        for start, given in ((disturbed, points), (hidden, points), (hidden, None))
    }
    assert started == {"prediction", "points", "random"}
    config = dataclasses.replace(config, weak_gain=1e3, num_kept_weak=5)
    weak = improve([views], config, start=disturbed, points=points, **HOW)
    assert weak.start == "mixed"
    assert weak.moments[0].num_gaussians == 5 + 20


def test_points_are_thinned_to_half_the_room():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(100, 3)), rng.uniform(size=(100, 3)).astype("f")
    positions, colours = some_of(points, dataclasses.replace(FIT, capacity=40))
    assert positions.shape == colours.shape == (20, 3)
    place = [np.flatnonzero((points[0] == row).all(axis=1))[0] for row in positions]
    assert len(set(place)) == 20
    np.testing.assert_array_equal(colours, points[1][place])
    assert some_of(points, dataclasses.replace(FIT, capacity=400)) is points
