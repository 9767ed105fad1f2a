"""Trajectories from above, drawn with Pillow."""

import numpy as np

from tttlrm_jax.reports.line_chart import FAINT, GRID, INK, Canvas, label, nice_ticks

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
    axes = top_view_axes(predicted if true is None else true)
    lines = [each[:, :3, 3] @ axes.T for each in (true, predicted) if each is not None]
    everything = np.concatenate(lines)
    middle = 0.5 * (everything.min(axis=0) + everything.max(axis=0))
    room = np.array([WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM])
    extent = np.maximum(np.ptp(everything, axis=0), 1e-6)
    scale = float(np.min(room / (1.12 * extent)))
    centre = np.array([LEFT, TOP]) + 0.5 * room

    def place(point) -> tuple[float, float]:
        x, y = (np.asarray(point) - middle) * scale
        return float(centre[0] + x), float(centre[1] - y)

    canvas = Canvas(WIDTH, HEIGHT)
    canvas.text((LEFT, 22), title, INK, 22)
    canvas.card(LEFT, TOP, WIDTH - RIGHT, HEIGHT - BOTTOM)
    _draw_grid(canvas, middle, room / scale, place, unit)
    if true is not None:
        step = max(1, -(-len(true) // MAX_ERROR_LINES))
        for a, b in zip(lines[0][::step], lines[1][::step], strict=True):
            canvas.line([place(a), place(b)], ERROR, 0.8)
    for points, colour in zip(lines[::-1], (PREDICTED, TRUE), strict=False):
        places = [place(point) for point in points]
        if len(places) > 1:
            canvas.line(places, colour, 2.2)
        canvas.dot(places[0], 5, colour)
    names = [("predicted", PREDICTED)] + (
        [("true", TRUE), ("error", ERROR)] if true is not None else []
    )
    left = LEFT + 6
    for name, colour in names:
        canvas.dot((left, TOP - 16), 4.5, colour)
        canvas.text((left + 11, TOP - 16), name, FAINT, 13, "lm")
        left += canvas.text_width(name, 13) + 40
    canvas.text((WIDTH - RIGHT, TOP - 16), "dot: first frame", FAINT, 13, "rm")
    return canvas.picture()


def _draw_grid(canvas: Canvas, middle, span, place, unit: str) -> None:
    for axis in (0, 1):
        low, high = middle[axis] - 0.5 * span[axis], middle[axis] + 0.5 * span[axis]
        ticks = nice_ticks(float(low), float(high), 6)
        for tick in (tick for tick in ticks if low <= tick <= high):
            text = label(tick, ticks[1] - ticks[0])
            if axis == 0:
                x = place((tick, middle[1]))[0]
                canvas.line([(x, TOP), (x, HEIGHT - BOTTOM)], GRID, 1)
                canvas.text((x, HEIGHT - BOTTOM + 8), text, FAINT, 13, "ma")
            else:
                y = place((middle[0], tick))[1]
                canvas.line([(LEFT, y), (WIDTH - RIGHT, y)], GRID, 1)
                canvas.text((LEFT - 10, y), text, FAINT, 13, "rm")
    canvas.text((0.5 * (LEFT + WIDTH - RIGHT), HEIGHT - 26), f"from above, {unit}", INK, 14, "ma")
