"""Trajectories from above, one scale for both axes."""

import numpy as np

from tttlrm_jax.reports import figures
from tttlrm_jax.reports.figures import FAINT, POINT

WIDTH, HEIGHT = 760, 640
LEFT, TOP, RIGHT, BOTTOM = 86, 84, 30, 60
PREDICTED, TRUE, ERROR = "#0f766e", "#8a8880", "#c2410c"
MAX_ERROR_LINES = 60


def top_view_axes(world_from_camera: np.ndarray) -> np.ndarray:
    """Two level unit vectors [2, 3]: right along the widest spread, then upwards on the paper.

    Level is at right angles to the mean image y axis of the cameras [frame, 4, 4].
    """
    down = world_from_camera[:, :3, 1].mean(axis=0)
    length = np.linalg.norm(down)
    down = down / length if length > 1e-3 else world_from_camera[0, :3, 1]
    centre = world_from_camera[:, :3, 3]
    level = centre - centre.mean(axis=0)
    level = level - np.outer(level @ down, down)
    _, strength, directions = np.linalg.svd(level, full_matrices=False)
    right = directions[0] if strength[0] > 1e-9 else world_from_camera[0, :3, 0]
    right = right - down * (right @ down)
    right = right / np.linalg.norm(right)
    if np.abs(right).max() != right.max():
        right = -right
    return np.stack([right, np.cross(right, down)])


def trajectory_plot(
    predicted: np.ndarray, true: np.ndarray | None, title: str, unit: str = "m"
) -> np.ndarray:
    """Positions of poses [frame, 4, 4] from above, uint8 [height, width, 3].

    `predicted` is drawn over `true`, which it is aligned with and as long as; thin lines join the
    two at some frames. Both axes have one scale.
    """
    from matplotlib.collections import LineCollection

    level = top_view_axes(predicted if true is None else true)
    lines = [each[:, :3, 3] @ level.T for each in (true, predicted) if each is not None]
    figure = figures.new_figure(WIDTH, HEIGHT)
    figures.add_text(figure, (LEFT, 32), title, size=22)
    axes = figures.add_axes(figure, (LEFT, TOP, WIDTH - RIGHT, HEIGHT - BOTTOM))
    _frame(axes, np.concatenate(lines), unit)
    if true is not None:
        step = max(1, -(-len(true) // MAX_ERROR_LINES))
        pairs = np.stack([each[::step] for each in lines], axis=1)
        axes.add_collection(LineCollection(pairs, colors=ERROR, linewidths=POINT, label="error"))
    drawn = zip(lines[::-1], ("predicted", "true"), (PREDICTED, TRUE), strict=False)
    for number, (points, name, colour) in enumerate(drawn):
        axes.plot(*points.T, color=colour, linewidth=2.2 * POINT, label=name, zorder=4 - number)
        axes.plot(*points[0], "o", color=colour, markersize=10 * POINT, zorder=4 - number)
    axes.legend(
        loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=3, frameon=False, labelcolor=FAINT,
        prop={"family": figures.FONT, "size": 13 * POINT}, borderaxespad=0.3,
    )  # fmt: skip
    figures.add_text(
        figure, (WIDTH - RIGHT, TOP - 16), "dot: first frame", size=13, colour=FAINT, align="right"
    )
    return figures.pixels(figure)


def _frame(axes, points: np.ndarray, unit: str) -> None:
    """Limits around the points [point, 2] with one scale for both axes, and their labels."""
    from matplotlib.ticker import MaxNLocator, ScalarFormatter

    middle = 0.5 * (points.min(axis=0) + points.max(axis=0))
    room = np.array([WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM])
    extent = np.maximum(np.ptp(points, axis=0), 1e-6)
    half = 0.5 * room / np.min(room / (1.12 * extent))
    axes.set_xlim(middle[0] - half[0], middle[0] + half[0])
    axes.set_ylim(middle[1] - half[1], middle[1] + half[1])
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10]))
        axis.set_major_formatter(ScalarFormatter(useOffset=False, useMathText=False))
    figures.name_axis(axes, "x", f"across, {unit} (seen from above)")
    figures.name_axis(axes, "y", f"along, {unit}")
