"""Where cameras stood: those of a capture from above and from the side, and trajectories."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from markupsafe import Markup

from tttlrm_jax.core.geometry.paths import up_direction
from tttlrm_jax.reports.page import script_json
from tttlrm_jax.reports.plots import (
    CARD,
    COLOURS,
    FAINT,
    GRID,
    HEADING,
    INK,
    TEXT,
    TITLE,
    Plot,
    new_axes,
    new_figure,
    nice_ticks,
    style,
    write,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Role = Literal["input", "target", "other"]
INPUT, TARGET, OTHER = COLOURS[0], COLOURS[1], COLOURS[3]
PREDICTED, TRUE, ERROR = COLOURS[0], COLOURS[3], COLOURS[1]
CAMERA_WIDTH, MAX_CAMERA_HEIGHT = 5.4, 4.6  # inches: of the figure, of a panel at most
TRAJECTORY_SIZE = (7.6, 5.6)  # inches
MAX_ERROR_LINES = 60
MAX_TRAJECTORY_POINTS = 4000  # drawn; longer ones are thinned evenly


@dataclasses.dataclass(frozen=True, kw_only=True)
class NamedCamera:
    """A camera of the capture and what it was used for; `intrinsics` are fx, fy, cx, cy."""

    name: str
    role: Role
    world_from_camera: np.ndarray  # [4, 4]
    intrinsics: np.ndarray  # [4] pixels
    height: int
    width: int


def viewer_scene(
    cameras: list[NamedCamera], *, background: Sequence[float], dilation: float, up: np.ndarray,
    centre: np.ndarray, radius: float, first: int = 0,
) -> Markup:  # fmt: skip
    """JSON for viewer.js: cameras, of which it shows the `first`, and what it turns around."""
    return script_json({
        "background": list(background), "dilation": dilation, "up": up.tolist(),
        "centre": centre.tolist(), "radius": radius, "first": first,
        "cameras": [
            {
                "name": camera.name, "role": camera.role, "height": camera.height,
                "width": camera.width,
                "pose": np.asarray(camera.world_from_camera, np.float64).tolist(),
                "intrinsics": np.asarray(camera.intrinsics, np.float64).tolist(),
            }
            for camera in cameras
        ],
    })  # fmt: skip


def level_axes(world_from_camera: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Right, away and up, unit vectors [3] at right angles, of poses [camera, 4, 4].

    Right is the level direction in which the cameras spread most, its largest component positive;
    where all stand in one place, that of the first camera.
    """
    up = up_direction(world_from_camera)
    centre = world_from_camera[:, :3, 3]
    level = centre - centre.mean(axis=0)
    level = level - np.outer(level @ up, up)
    _, strength, directions = np.linalg.svd(level, full_matrices=False)
    right = directions[0] if strength[0] > 1e-9 else world_from_camera[0, :3, 0]
    right = right - up * (right @ up)
    right = right / np.linalg.norm(right)
    right = right if np.abs(right).max() == right.max() else -right
    return right, np.cross(up, right), up


@dataclasses.dataclass(frozen=True)
class _View:
    """A direction from which the cameras are drawn, and what is drawn in it."""

    title: str
    upwards: str  # name of the vertical direction
    axes: np.ndarray  # [2, 3] right and upwards on the paper
    low: np.ndarray  # [2] units of the capture
    high: np.ndarray

    @property
    def extent(self) -> np.ndarray:
        return self.high - self.low


def camera_plot(cameras: list[NamedCamera], points: np.ndarray) -> Plot:
    """Two panels of one scale. `points` [point, 3] are drawn as faint dots.

    Input cameras are filled, targets outlined, all others small dots. Points far outside the
    cameras' box are left out.
    """
    shapes = _shapes(cameras)
    views = _views(cameras, np.concatenate(shapes))
    extents = np.stack([view.extent for view in views])
    scale = min(_ROOM / extents[0, 0], MAX_CAMERA_HEIGHT / extents[:, 1].max())  # inches per unit
    height = float(scale * extents[:, 1].sum()) + len(views) * _ABOVE + _BELOW
    tooltips = {}
    with style():
        figure, top = new_figure(CAMERA_WIDTH, height), 0.0
        for place, view in enumerate(views):
            across, down = scale * view.extent
            box = (_LEFT + 0.5 * (_ROOM - across), top + _ABOVE, across, down)
            axes = new_axes(figure, box)
            _prepare(axes, view, last=place == len(views) - 1)
            _draw_points(axes, points @ view.axes.T, view)
            for number, (camera, shape) in enumerate(zip(cameras, shapes, strict=True)):
                name = f"camera-{place}-{number}"
                tooltips[name] = f"{camera.name} ({camera.role})"
                _draw_camera(axes, camera.role, shape @ view.axes.T, name)
            top += _ABOVE + down
    label = f"{len(cameras)} cameras, seen from above and from the side"
    return Plot(figure, label, tooltips)


_LEFT, _ABOVE, _BELOW = 0.72, 0.4, 0.55  # inches beside, above and below a panel
_ROOM = CAMERA_WIDTH - _LEFT - 0.1


def _shapes(cameras: list[NamedCamera]) -> list[np.ndarray]:
    """Viewing pyramids [5, 3] of cameras that were used, centres [1, 3] of the others."""
    length = wedge_length(cameras)
    return [_wedge(camera, length)[: 1 if camera.role == "other" else None] for camera in cameras]


def _views(cameras: list[NamedCamera], corners: np.ndarray) -> list[_View]:
    """From above and from the side, around all corners [corner, 3]."""
    poses = np.stack([camera.world_from_camera for camera in cameras])
    right, away, up = level_axes(poses)
    room = 0.06 * _reach(poses[:, :3, 3])
    views = []
    for title, name, upwards in (("from above", "away", away), ("from the side", "up", up)):
        axes = np.stack([right, upwards])
        flat = corners @ axes.T
        views.append(_View(title, name, axes, flat.min(axis=0) - room, flat.max(axis=0) + room))
    return views


def _prepare(axes: "Axes", view: _View, last: bool) -> None:
    """Limits, title and grid; numbers to the right stand below the last panel, for all."""
    axes.set_xlim(view.low[0], view.high[0])
    axes.set_ylim(view.low[1], view.high[1])
    axes.tick_params(labelbottom=last)
    axes.set_title(view.title, loc="left", size=HEADING, color=INK, pad=6)
    axes.set_ylabel(f"{view.upwards}, units of the capture", size=TEXT, color=FAINT)
    if last:
        axes.set_xlabel("right, units of the capture", size=TEXT, color=FAINT)
    _grid(axes, wanted=6)


def wedge_length(cameras: list[NamedCamera]) -> float:
    """Of the drawn viewing pyramids: a share of the cameras' reach, less where many are drawn."""
    drawn = sum(camera.role != "other" for camera in cameras)
    centres = np.stack([camera.world_from_camera[:3, 3] for camera in cameras])
    return 0.1 * _reach(centres) * min(1.0, (16 / max(drawn, 1)) ** 0.5)


def trajectory_plot(predicted: np.ndarray, true: np.ndarray | None, title: str) -> Plot:
    """Positions of poses [frame, 4, 4] from above.

    `predicted` is drawn over `true`, which it is aligned with and as long as; thin lines join the
    two at some frames. Both axes have one scale.
    """
    right, away, _ = level_axes(predicted if true is None else true)
    lines = [each[:, :3, 3] @ np.stack([right, away]).T for each in (predicted, true)
             if each is not None]  # fmt: skip
    width, height = TRAJECTORY_SIZE
    with style():
        figure = new_figure(width, height)
        write(figure, 0.3, 0.22, title, TITLE * min(1.0, 52 / max(len(title), 1)), INK)
        axes = new_axes(figure, (0.86, 0.92, width - 1.16, height - 1.56))
        _set_square(axes, np.concatenate(lines), (width - 1.16) / (height - 1.56))
        _grid(axes, wanted=7)
        axes.set_xlabel("right, m (seen from above)", size=TEXT, color=INK, labelpad=6)
        axes.set_ylabel("away, m", size=TEXT, color=INK, labelpad=6)
        if true is not None:
            _draw_errors(axes, *lines)
            _draw_path(axes, lines[1], TRUE, "true")
        _draw_path(axes, lines[0], PREDICTED, "predicted")
        axes.plot([], [], "o", color=FAINT, markersize=5, label="first frame")
        axes.legend(
            loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=4, frameon=False, fontsize=TEXT,
            labelcolor=FAINT, borderaxespad=0.3, borderpad=0.2, handlelength=1.6,
        )  # fmt: skip
    return Plot(figure, f"{title}: trajectory from above")


def _grid(axes: "Axes", wanted: int) -> None:
    """Lines at round numbers, the same in both directions."""
    from matplotlib.ticker import MultipleLocator

    span = max(np.ptp(axes.get_xlim()), np.ptp(axes.get_ylim()))
    step = float(np.diff(nice_ticks(0.0, float(span), wanted))[0])
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MultipleLocator(step))
    axes.grid(color=GRID, linewidth=0.8)


def _set_square(axes: "Axes", places: np.ndarray, ratio: float) -> None:
    """Limits around places [point, 2] with one scale in both directions; `ratio` is of the box."""
    middle = 0.5 * (places.min(axis=0) + places.max(axis=0))
    half = 0.56 * np.maximum(np.ptp(places, axis=0), 1e-6)
    half_height = max(half[1], half[0] / ratio)
    axes.set_xlim(middle[0] - ratio * half_height, middle[0] + ratio * half_height)
    axes.set_ylim(middle[1] - half_height, middle[1] + half_height)


def _draw_path(axes: "Axes", places: np.ndarray, colour: str, name: str) -> None:
    thinned = places[:: max(1, -(-len(places) // MAX_TRAJECTORY_POINTS))]
    axes.plot(*thinned.T, color=colour, linewidth=1.7, label=name)
    axes.plot(*places[:1].T, "o", color=colour, markersize=7, markeredgecolor=CARD)


def _draw_errors(axes: "Axes", predicted: np.ndarray, true: np.ndarray) -> None:
    from matplotlib.collections import LineCollection

    step = max(1, -(-len(true) // MAX_ERROR_LINES))
    pairs = np.stack([true, predicted], axis=1)[::step]
    axes.add_collection(
        LineCollection(list(pairs), colors=ERROR, linewidths=0.7, label="error"), autolim=False
    )


def _draw_points(axes: "Axes", flat: np.ndarray, view: _View) -> None:
    """Faint dots, as a picture within the drawing: there are hundreds."""
    inside = flat[np.all((flat > view.low) & (flat < view.high), axis=-1)]
    if len(inside):
        axes.scatter(*inside.T, s=3, color=FAINT, alpha=0.35, linewidths=0, rasterized=True)


def _draw_camera(axes: "Axes", role: Role, shape: np.ndarray, name: str) -> None:
    """The outline of a viewing pyramid [5, 2], or a dot where the camera was not used."""
    from matplotlib.colors import to_rgba
    from matplotlib.patches import Polygon

    if role == "other":
        axes.plot(*shape[:1].T, "o", color=OTHER, markersize=2.6, markeredgewidth=0, gid=name)
        return
    look = {"input": {"facecolor": to_rgba(INPUT, 0.55), "edgecolor": INPUT, "zorder": 4},
            "target": {"fill": False, "edgecolor": TARGET, "zorder": 3}}[role]  # fmt: skip
    axes.add_patch(Polygon(_outline(shape), linewidth=1.2, joinstyle="round", gid=name, **look))


def _reach(centres: np.ndarray) -> float:
    """Diagonal of the cameras' box; 1 where all stand in one place."""
    diagonal = float(np.linalg.norm(np.ptp(centres, axis=0)))
    return diagonal if diagonal > 0 else 1.0


def _wedge(camera: NamedCamera, length: float) -> np.ndarray:
    """Apex and the four far corners of the viewing pyramid, [5, 3]."""
    fx, fy, cx, cy = camera.intrinsics
    right, down, forward, centre = camera.world_from_camera[:3].T
    corners = [
        centre + length * (forward + (u - cx) / fx * right + (v - cy) / fy * down)
        for u, v in ((0, 0), (camera.width, 0), (camera.width, camera.height), (0, camera.height))
    ]
    return np.stack([centre, *corners])


def _outline(flat: np.ndarray) -> np.ndarray:
    """The convex hull of points [point, 2], in order; the points as they are where it is a line."""
    from scipy.spatial import ConvexHull, QhullError

    try:
        return flat[ConvexHull(flat).vertices]
    except QhullError:  # all on a line: seen edge on
        return flat
