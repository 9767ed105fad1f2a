"""The curve and the film of Gaussians that improve."""

import numpy as np

from tttlrm_jax.per_scene import Moment
from tttlrm_jax.reports.improvement import (
    MOST_FRAMES,
    STILL,
    improvement_frames,
    improvement_plot,
)


def moments(count):
    rng = np.random.default_rng(0)
    return [
        Moment(
            step=number, seconds=0.5 * number, psnr=20 + number % 3, num_gaussians=100 + number,
            size=(8, 12), picture=rng.integers(0, 255, (8, 12, 3), np.uint8),
        )
        for number in range(count)
    ]  # fmt: skip


def test_a_film_shows_every_moment_and_stops_on_the_last():
    photograph = np.zeros((8, 12, 3), np.uint8)
    frames = list(improvement_frames(moments(4), "left.png", photograph))
    assert len(frames) == 4 + STILL
    assert len({frame.shape for frame in frames}) == 1
    assert len({frame.tobytes() for frame in frames}) == 4
    assert frames[-1].tobytes() == frames[3].tobytes()
    many = improvement_frames(moments(MOST_FRAMES + 50), "left.png", photograph)
    assert sum(1 for _ in many) == MOST_FRAMES + STILL


def test_the_curve_shows_now_and_the_best_so_far():
    plot = improvement_plot(moments(5), "desk", "2 of 9 judge")
    now, best = (line.get_ydata() for line in plot.figure.axes[0].get_lines())
    assert list(now) == [20, 21, 22, 20, 21]
    assert list(best) == [20, 21, 22, 22, 22]
    assert "desk" in plot.svg()
