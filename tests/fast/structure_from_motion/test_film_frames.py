"""Frames of a film: sharp ones, some way from each other."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, uniform_filter

from tttlrm_jax.core.errors import InputError
from tttlrm_jax.export.video import write_video
from tttlrm_jax.structure_from_motion.film_frames import (
    STEP,
    FilmMeasures,
    choose,
    chosen_frames,
    measure_frames,
)

WIDTH, HEIGHT = 256, 128
TEXTURE = gaussian_filter(np.random.default_rng(0).normal(size=(HEIGHT + 40, 900)), 1.0)
TEXTURE = np.clip(128 + 160 * TEXTURE, 0, 255).astype(np.uint8)


def picture(x: int, y: int = 20, blur: int = 0) -> np.ndarray:
    part = TEXTURE[y : y + HEIGHT, x : x + WIDTH]
    if blur:
        part = uniform_filter(part, (1, blur))
    return np.repeat(part[..., None], 3, axis=2)


def test_the_way_is_that_of_the_picture():
    film = measure_frames(picture(x) for x in range(0, 160, 5))
    np.testing.assert_allclose(film.travelled, np.arange(0, 160, 5) / WIDTH, atol=0.02)


def test_trembling_is_no_way():
    places = np.random.default_rng(1).integers(-2, 3, (20, 2))
    film = measure_frames(picture(100 + x, 20 + y) for x, y in places)
    assert film.travelled[-1] < STEP / 2


def test_a_cut_counts_as_a_step():
    film = measure_frames([picture(0), picture(600), picture(600)])
    np.testing.assert_allclose(film.travelled, [0, STEP, STEP])


def test_blurred_frames_are_not_chosen():
    blurred = {n for n in range(60) if n % 3}
    film = measure_frames(picture(4 * n, blur=9 * (n in blurred)) for n in range(60))
    numbers = choose(film, most=100)
    assert not blurred & set(numbers)
    steps = np.diff(film.travelled[numbers])
    assert len(numbers) > 10
    assert (steps > STEP / 3).all()
    assert (steps < 2.5 * STEP).all()


@pytest.mark.parametrize("most", [3, 8, 40, 500])
def test_no_more_than_wanted_and_all_of_the_way(most):
    way = np.cumsum(np.random.default_rng(2).uniform(0, 0.05, 400))
    film = FilmMeasures(np.random.default_rng(3).uniform(size=400), way - way[0])
    numbers = choose(film, most)
    assert len(numbers) <= most
    assert numbers == sorted(set(numbers))
    assert len(numbers) > 0.6 * min(most, way[-1] / STEP)
    gaps = np.diff([0.0, *film.travelled[numbers], film.travelled[-1]])
    assert gaps.max() < 2.5 * max(STEP, way[-1] / most)


def test_a_film_in_which_nothing_moves(tmp_path):
    path = tmp_path / "still.mp4"
    write_video(path, np.stack([picture(50)] * 12), frames_per_second=10, min_side=1)
    with pytest.raises(InputError, match=r"moves on by 0 % of its width in 12 frames; film while"):
        chosen_frames(path, 100)
