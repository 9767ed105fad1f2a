"""Plots: what is drawn where, read back from pictures and figures; SVG for a page."""

import io
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from importlib import resources

import numpy as np
import pytest
from PIL import Image

from tests.fast.reports.cameras import camera
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.reports.camera_plots import camera_plot, level_axes, trajectory_plot
from tttlrm_jax.reports.plots import (
    COLOURS,
    THEME,
    Panel,
    Series,
    line_charts,
    nice_ticks,
    tick_label,
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
    assert [tick_label(value, 0.05) for value in (17.9, 18.0)] == ["17.90", "18.00"]
    assert tick_label(400.0, 200.0) == "400"
    assert tick_label(0.5, 0.5) == "0.5"
    assert tick_label(2e9, 5e8) == "2e+09"


def test_long_streams_get_few_numbers_with_both_ends():
    assert x_positions([4, 8, 12], 17) == [4, 8, 12]
    for count in (18, 60, 61, 512):
        chosen = x_positions(list(range(1, count + 1)), 17)
        assert 2 < len(chosen) <= 18
        assert (chosen[0], chosen[-1]) == (1, count)
        assert len(set(np.diff(chosen[:-1]))) == 1  # even but for the last


def chart(values, x=None, **options):
    series = [Series(name="mean", values=values, spread=options.pop("spread", None))]
    panel = Panel(title="PSNR", unit="dB", series=series, **options)
    places = list(range(1, len(values) + 1)) if x is None else x
    return line_charts("scene", "text", places, "views seen", [panel])


def pixels(plot):
    return np.asarray(Image.open(io.BytesIO(plot.png())).convert("RGB"))


def heights(plot):
    """Rows and columns of the line's pixels."""
    distance = np.abs(pixels(plot).astype(int) - TEAL).max(axis=-1)
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
    picture = pixels(chart(values))
    assert picture.dtype == np.uint8
    assert picture.shape[1:] == (2000, 3)


def test_bars_reach_from_minus_to_plus():
    rows, columns = heights(chart([4.0, 4.0], spread=[0.0, 4.0])).T
    left, right = rows[columns < columns.min() + 8], rows[columns > columns.max() - 8]
    assert np.ptp(left) < 20
    assert np.ptp(right) > 300  # 0 to 8 is the whole height


def test_bands_reach_from_minus_to_plus():
    plot = chart([4.0, 4.0, np.nan], spread=[0.0, 4.0, 1.0], bands=True)
    (band,) = plot.figure.axes[0].collections
    corners = band.get_paths()[0].vertices
    assert (corners[:, 1].min(), corners[:, 1].max()) == (0.0, 8.0)
    assert corners[:, 0].max() == 2  # nothing where the value is not finite


def test_limits_of_an_axis_are_kept():
    assert chart([0.5, 3.0], limits=(0.9, 1.1)).figure.axes[0].get_ylim() == (0.9, 1.1)
    assert chart([2.0, 3.0]).figure.axes[0].get_ylim()[0] == 0
    assert chart([2.0, 3.0], from_zero=False).figure.axes[0].get_ylim()[0] == 2


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
    panel = Panel(title="t", unit="s", series=[below, above], legend=False)
    whole = heights(chart(values))
    seen = heights(line_charts("scene", "text", [1, 2, 3], "views", [panel]))
    row = np.bincount(whole[:, 0]).argmax()
    share = np.sum(seen[:, 0] == row) / np.sum(whole[:, 0] == row)
    assert 0.25 < share < 0.65  # gaps are 3 of 7


def test_differences_have_a_zero_line_within_the_axis():
    series = [Series(name="mean", values=[-3.0, -1.0], spread=[0.5, 0.5])]
    panel = Panel(title="t", unit="s", series=series, zero_line=True)
    plot = line_charts("scene", "text", [1, 2], "views", [panel], plot_height=1.3)
    picture = pixels(plot)
    assert picture.shape == (600, 2000, 3)
    zero = np.abs(picture.astype(int) - np.array([0x6B, 0x6C, 0x74])).max(axis=-1) < 20
    marked = np.flatnonzero(zero[:, 200:1900].mean(axis=1) > 0.9)
    assert len(marked) > 0
    assert marked.max() < heights(plot)[:, 0].min()  # all values are below 0


def test_more_series_than_colours_are_refused():
    series = [Series(name=str(i), values=[1.0]) for i in range(len(COLOURS) + 1)]
    with pytest.raises(InputError, match="colours"):
        line_charts("scene", "text", [1], "x", [Panel(title="t", unit="s", series=series)])


@pytest.mark.parametrize("spread", [None, [1.0, 2.0, 3.0]])
def test_series_of_another_length_is_refused(spread):
    values = [1.0] if spread is None else [1.0, 2.0]
    series = [Series(name="mean", values=values, spread=spread)]
    with pytest.raises(InputError, match="mean"):
        line_charts("s", "t", [1, 2], "views seen", [Panel(title="t", unit="s", series=series)])


def boxes(plot):
    """Boxes in pixels of all texts that are drawn."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

    canvas = FigureCanvasAgg(plot.figure)
    canvas.draw()
    texts = [t for t in plot.figure.findobj(Text) if t.get_text() and t.get_visible()]
    shown = [(t.get_text(), t.get_window_extent(canvas.get_renderer())) for t in texts]
    return [(text, box) for text, box in shown if box.width]


LONG = [f"a rule of a rather long name, number {number}" for number in range(6)]


@pytest.mark.parametrize("names", [LONG, LONG[:2], ["state", "Gaussians", "views kept"]])
@pytest.mark.parametrize("count", [3, 17, 60, 511])
def test_no_text_covers_another(names, count):
    rng = np.random.default_rng(0)
    series = [Series(name=name, values=rng.uniform(-9, 1e4, count)) for name in names]
    panels = [Panel(title=f"Number {k}", unit="MiB", series=series) for k in range(2)]
    plot = line_charts("scene", "text", list(range(count)), "views seen", panels)
    found = boxes(plot)
    width, height = plot.figure.canvas.get_width_height()
    for number, (text, box) in enumerate(found):
        assert box.x0 >= 0, text
        assert box.y0 >= 0, text
        assert box.x1 <= width, text
        assert box.y1 <= height, text
        for other, another in found[:number]:
            assert not box.overlaps(another), (text, other)


def test_an_svg_has_the_colours_of_its_page_and_no_outside_references():
    series = [Series(name="a <b>&", values=[1.0, 2.0]), Series(name="other", values=[2.0, 1.0])]
    panel = Panel(title="$T_1$ <i>", unit="dB", series=series, zero_line=True)
    svg = line_charts("scene", "text", [1, 2], "views", [panel]).svg()
    assert svg == line_charts("scene", "text", [1, 2], "views", [panel]).svg()
    tree = ElementTree.fromstring(svg)
    assert tree.get("role") == "img"
    texts = [element.text.strip() for element in tree.iter("text")]
    assert "a <b>&" in texts
    assert "$T_1$ <i>" in texts
    assert not re.search(r"https?:|<style|#[0-9a-f]{6}", svg)
    assert not [element for element in tree.iter("g") if element.get("id")]
    css = (resources.files("tttlrm_jax.reports") / "templates" / "report.css").read_text()
    for name in THEME.values():
        assert len(re.findall(rf"{name}: #[0-9a-f]{{6}};", css)) == 2  # light and dark


def test_matplotlib_is_imported_when_something_is_drawn():
    code = (
        "import sys, tttlrm_jax.reports.sequence, tttlrm_jax.reports.reconstruction\n"
        "assert not [name for name in sys.modules if name.startswith('matplotlib')]\n"
        "from tttlrm_jax.reports.plots import Panel, Series, line_charts\n"
        "series = [Series(name='a', values=[1.0])]\n"
        "line_charts('t', 's', [1], 'x', [Panel(title='t', unit='u', series=series)]).png()\n"
        "assert 'matplotlib' in sys.modules and 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# ---- cameras ------------------------------------------------------------------------------------


POSITIONS = [(3, 0, 1), (0, 3, 2), (-3, 0.5, 1)]


@pytest.mark.parametrize("positions", [POSITIONS, POSITIONS[:1], [(3, 0, 1)] * 3])
def test_cameras_stand_inside_the_plot(positions):
    roles = ["input", "target", "other"]
    cameras = [camera(f"<{k}>", roles[k], where) for k, where in enumerate(positions)]
    plot = camera_plot(cameras, np.random.default_rng(0).normal(size=(50, 3)))
    for axes in plot.figure.axes:
        low, high = np.transpose([axes.get_xlim(), axes.get_ylim()])
        corners = [patch.get_xy() for patch in axes.patches]
        assert len(corners) == sum(c.role != "other" for c in cameras)
        dots = [line.get_xydata() for line in axes.lines]
        assert len(dots) == sum(c.role == "other" for c in cameras)
        scattered = [np.asarray(each.get_offsets()) for each in axes.collections]
        for points in (*corners, *dots, *scattered):
            assert ((points >= low) & (points <= high)).all()
        box = axes.get_window_extent()
        scale = np.array([box.width, box.height]) / (high - low)
        np.testing.assert_allclose(scale[0], scale[1], rtol=1e-6)
    svg = plot.svg()
    assert "<0>" not in svg
    assert svg.count("<title>&lt;0&gt; (input)</title>") == 2
    ElementTree.fromstring(svg)


def test_level_axes_are_at_right_angles_and_up_is_up():
    poses = np.stack([camera("", "input", where).world_from_camera for where in POSITIONS])
    axes = np.stack(level_axes(poses))
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-9)
    np.testing.assert_allclose(np.linalg.det(axes), 1)
    assert axes[2, 2] > 0.9


def test_the_plot_shows_both_paths():
    poses = np.tile(np.eye(4), (20, 1, 1))
    poses[:, 0, 3] = np.linspace(0, 2, 20)
    poses[:, 2, 3] = np.sin(np.linspace(0, 3, 20))
    with_truth = pixels(trajectory_plot(poses, poses + 0.01, "title"))
    plot = trajectory_plot(poses, None, "title")
    alone = pixels(plot)
    assert with_truth.shape == alone.shape
    assert not np.array_equal(with_truth, alone)
    drawn, true = plot.figure.axes[0].lines[0].get_xydata(), poses[:, [0, 2], 3]
    for path in (drawn, true):  # turned, not stretched
        path -= path[0]
    np.testing.assert_allclose(*(np.linalg.norm(path, axis=1) for path in (drawn, true)))
    assert drawn[-1, 0] > 0
    standing = pixels(trajectory_plot(np.tile(np.eye(4), (3, 1, 1)), None, "title"))
    assert standing.shape == alone.shape
