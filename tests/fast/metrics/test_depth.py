"""Depth errors on cases worked by hand, and in blocks."""

import numpy as np
import pytest

from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.geometry.alignment import lower_median
from tttlrm_jax.metrics import depth
from tttlrm_jax.metrics.depth import align_depth, depth_errors, valid_pixels, weighted_average
from tttlrm_jax.metrics.resample import resize_cubic

RNG = np.random.default_rng(0)


def test_errors_of_three_pixels():
    errors = depth_errors(np.array([1.0, 3.0, 4.0]), np.array([1.0, 2.0, 4.0]), "metric")
    assert errors.abs_rel == pytest.approx(1 / 6)
    assert errors.sq_rel == pytest.approx(1 / 6)
    assert errors.rmse == pytest.approx(np.sqrt(1 / 3))
    assert errors.log_rmse == pytest.approx(np.log(1.5) / np.sqrt(3))
    assert errors.delta == pytest.approx((0, 2 / 3, 1, 1))
    assert errors.valid_pixels == 3


@pytest.mark.parametrize("alignment", ["scale", "median"])
def test_a_scale_is_found(alignment):
    true = RNG.uniform(1, 5, 1000)
    assert align_depth(true / 3, true, alignment)[0] == pytest.approx(3)


def test_scale_follows_most_pixels_not_outliers():
    true = RNG.uniform(1, 5, 1000)
    predicted = true / 2
    predicted[:50] *= 0.3
    assert align_depth(predicted, true, "scale")[0] == pytest.approx(2, rel=1e-3)


def test_shift_moves_by_little():
    """Adam at 1e-4 for at most 1000 steps: a start that is good becomes a bit better."""
    true = RNG.uniform(1, 5, 500)
    predicted = true - 0.02
    scale, shift = align_depth(predicted, true, "scale_shift")
    start = align_depth(predicted, true, "median")[0]
    assert 0 < abs(shift) <= 0.11
    assert abs(scale - start) <= 0.11
    better = np.abs(scale * predicted + shift - true).sum()
    assert better < np.abs(start * predicted - true).sum()


@pytest.mark.parametrize("alignment", list(depth.ALIGNMENTS))
def test_blocks_change_nothing(alignment, monkeypatch):
    true = RNG.uniform(1, 5, 997).astype(np.float32)
    predicted = (true * RNG.uniform(0.8, 1.2, 997)).astype(np.float32)
    whole = depth_errors(predicted, true, alignment).row()
    monkeypatch.setattr(depth, "BLOCK", 100)
    np.testing.assert_allclose(depth_errors(predicted, true, alignment).row(), whole, rtol=1e-9)


def test_limits_of_validity():
    true = np.array([[0.0, 1.0], [70.0, 69.0]])
    predicted = np.arange(4.0).reshape(2, 2)
    assert valid_pixels(predicted, true)[0].tolist() == [1, 2, 3]
    assert valid_pixels(predicted, true, 70.0)[0].tolist() == [1, 3]
    with pytest.raises(InputError, match="has not the shape"):
        valid_pixels(predicted[:1], true)


def test_no_pixels_and_wild_predictions_are_named():
    with pytest.raises(InputError, match="valid pixels=0"):
        depth_errors(np.zeros(0), np.zeros(0))
    with pytest.raises(InputError, match="NaN or infinity"):
        depth_errors(np.array([np.nan, 1.0]), np.ones(2), "metric")
    with pytest.raises(InputError, match="predicted depth=NaN or infinity"):
        depth_errors(np.array([np.inf, 1.0]), np.ones(2), "metric")
    with pytest.raises(InputError, match="alignment=affine is unknown"):
        depth_errors(np.ones(2), np.ones(2), "affine")


@pytest.mark.parametrize("unknown", [np.inf, -np.inf, np.nan, 0.0, -1.0])
def test_true_depth_that_is_not_known_is_left_out_and_never_blamed_on_the_prediction(unknown):
    true, predicted = np.array([unknown, 2.0, 4.0]), np.array([7.0, 2.0, 4.0])
    for limit in (None, 10.0):
        kept = valid_pixels(predicted, true, limit)
        assert [each.tolist() for each in kept] == [[2, 4], [2, 4]]
    if not np.isfinite(unknown):
        for alignment in depth.ALIGNMENTS:
            with pytest.raises(InputError, match="true depth=NaN or infinity"):
                depth_errors(predicted, true, alignment)


def test_averages_weigh_by_pixels():
    few = depth_errors(np.array([2.0]), np.array([1.0]), "metric")
    many = depth_errors(np.ones(3), np.ones(3), "metric")
    assert weighted_average([few, many]).abs_rel == pytest.approx(0.25)


@pytest.mark.parametrize("count", [1, 2, 7, 1000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_lower_middle_value(count, dtype):
    values = RNG.normal(size=count).astype(dtype)
    values[: count // 3] = np.round(values[: count // 3], 1)
    assert lower_median(values) == sorted(values.tolist())[(count - 1) // 2]


def test_cubic_resizing_keeps_lines_and_size():
    ramp = np.tile(np.arange(12, dtype=np.float32), (9, 1))
    assert np.array_equal(resize_cubic(ramp, (9, 12)), ramp)
    double = resize_cubic(ramp, (18, 24))
    np.testing.assert_allclose(double[4, 6:18], np.arange(6, 18) / 2 - 0.25, atol=0.05)
