import numpy as np
import pytest

from tttlrm_jax.core.errors import InputError
from tttlrm_jax.reports.line_chart import (
    COLOURS,
    Panel,
    Series,
    dash_points,
    label,
    line_charts,
    nice_ticks,
    x_positions,
)

TEAL = np.array([0x0F, 0x76, 0x6E])


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 1.0, [0, 0.5, 1]),
        (0.0, 640.0, [0, 200, 400, 600, 800]),
        (17.92, 18.08, [17.9, 17.95, 18, 18.05, 18.1]),
        (-3.0, 4.0, [-4, -2, 0, 2, 4]),
        (5.0, 5.0, [4, 6, 8, 10]),
        (0.0, 0.0, [0, 0.5, 1]),
    ],
)
def test_ticks_are_round_and_enclose(low, high, expected):
    ticks = nice_ticks(low, high)
    if low != high:
        np.testing.assert_allclose(ticks, expected)
    assert ticks[0] <= low
    assert ticks[-1] >= high
    assert len(ticks) >= 2
    np.testing.assert_allclose(np.diff(ticks), ticks[1] - ticks[0])


def test_labels_of_an_axis_have_the_same_decimals():
    assert [label(value, 0.05) for value in (17.9, 18.0)] == ["17.90", "18.00"]
    assert label(400.0, 200.0) == "400"
    assert label(0.5, 0.5) == "0.5"


def test_long_streams_get_few_numbers_with_both_ends():
    assert x_positions([4, 8, 12]) == [4, 8, 12]
    chosen = x_positions(list(range(1, 513)))
    assert len(chosen) <= 20
    assert (chosen[0], chosen[-1]) == (1, 512)


def chart(values, **options):
    panel = Panel(title="PSNR", unit="dB", series=[Series(name="mean", values=values)], **options)
    return line_charts("scene", "text", list(range(1, len(values) + 1)), "views seen", [panel])


def heights(picture):
    """Rows of the line's pixels."""
    distance = np.abs(picture.astype(int) - TEAL).max(axis=-1)
    return np.argwhere(distance < 30)


def test_larger_values_lie_higher():
    rows, columns = heights(chart([1.0, 3.0])).T
    left, right = rows[columns < columns.min() + 8], rows[columns > columns.max() - 8]
    assert right.mean() < left.mean() - 50


def test_values_that_are_not_finite_are_gaps():
    points = heights(chart([1.0, 1.0, np.nan, 1.0, 1.0]))
    columns = np.unique(points[:, 1])
    assert np.diff(columns).max() > 300


@pytest.mark.parametrize("values", [[2.0], [0.0, 0.0], [np.nan, np.nan], [1e-9, 2e9]])
def test_odd_values_draw(values):
    picture = chart(values)
    assert picture.dtype == np.uint8
    assert picture.shape[1:] == (2000, 3)


def test_bars_reach_from_minus_to_plus():
    series = Series(name="mean", values=[4.0, 4.0], spread=[0.0, 4.0])
    panel = Panel(title="PSNR", unit="dB", series=[series])
    rows, columns = heights(line_charts("scene", "text", [1, 2], "views", [panel])).T
    left, right = rows[columns < columns.min() + 8], rows[columns > columns.max() - 8]
    assert np.ptp(left) < 20
    assert np.ptp(right) > 300  # 0 to 8 is the whole height


def test_equal_ratios_are_equally_far_apart():
    panel = Panel(title="t", unit="s", series=[Series(name="mean", values=[1.0, 1.0, 1.0])])
    picture = line_charts("scene", "text", [8, 16, 32], "frames", [panel], log_x=True)
    columns, counts = np.unique(heights(picture)[:, 1], return_counts=True)
    dots = columns[counts > 10]  # the line is thinner than its dots
    middle = dots[(dots > dots.min() + 50) & (dots < dots.max() - 50)]
    np.testing.assert_allclose(middle.mean(), (dots.min() + dots.max()) / 2, atol=2)


def test_a_dashed_line_shows_the_line_below_it():
    values = [1.0, 1.0, 1.0]
    below = Series(name="below", values=values)
    above = Series(name="above", values=values, colour=COLOURS[1], dashed=True)
    panel = Panel(title="t", unit="s", series=[below, above])
    whole = heights(chart(values))
    seen = heights(line_charts("scene", "text", [1, 2, 3], "views", [panel]))
    row = np.bincount(whole[:, 0]).argmax()
    share = np.sum(seen[:, 0] == row) / np.sum(whole[:, 0] == row)
    assert 0.25 < share < 0.65  # gaps are 7 of 16


def test_dashes_follow_the_corners():
    pieces = dash_points([(0.0, 0.0), (10.0, 0.0), (10.0, 10.0)], 8.0, 4.0)
    assert pieces == [[(0.0, 0.0), (8.0, 0.0)], [(10.0, 2.0), (10.0, 10.0)]]
    assert dash_points([(0.0, 0.0), (4.0, 0.0), (4.0, 4.0)], 6.0, 4.0) == [
        [(0.0, 0.0), (4.0, 0.0), (4.0, 2.0)]
    ]


def test_differences_have_a_zero_line_within_the_axis():
    series = [Series(name="mean", values=[-3.0, -1.0], spread=[0.5, 0.5])]
    panel = Panel(title="t", unit="s", series=series, zero_line=True)
    picture = line_charts("scene", "text", [1, 2], "views", [panel], plot_height=130)
    assert picture.shape == (600, 2000, 3)
    zero = np.abs(picture.astype(int) - np.array([0x6B, 0x6C, 0x74])).max(axis=-1) < 20
    marked = np.flatnonzero(zero[:, 200:1900].mean(axis=1) > 0.9)
    assert len(marked) > 0
    assert marked.max() < heights(picture)[:, 0].min()  # all values are below 0


def test_more_series_than_colours_are_refused():
    series = [Series(name=str(i), values=[1.0]) for i in range(len(COLOURS) + 1)]
    with pytest.raises(InputError, match="colours"):
        line_charts("scene", "text", [1], "x", [Panel(title="t", unit="s", series=series)])


def test_series_of_another_length_is_refused():
    panel = Panel(title="t", unit="s", series=[Series(name="mean", values=[1.0])])
    with pytest.raises(InputError, match="mean"):
        line_charts("scene", "text", [1, 2], "views seen", [panel])
