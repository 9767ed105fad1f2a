"""Where the cameras stood, as SVG: from above and from the side, with the scene as faint dots."""

import dataclasses
from typing import Literal

import numpy as np

from tttlrm_jax.reports import figures
from tttlrm_jax.reports.figures import FAINT

SIZE = 420  # units of each panel's longer side
LEFT, RIGHT, HEAD, FOOT = 44, 12, 30, 52
Role = Literal["input", "target", "other"]
LOOKS = {  # fill and edge; the page's classes follow its light or dark colours
    "input": ("#0f766e8c", "#0f766e"), "target": ("none", "#c2410c"), "other": ("#8a8880", "none"),
}  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class NamedCamera:
    """A camera of the capture and what it was used for; `intrinsics` are fx, fy, cx, cy."""

    name: str
    role: Role
    world_from_camera: np.ndarray  # [4, 4]
    intrinsics: np.ndarray  # [4] pixels
    height: int
    width: int


def up_direction(cameras: list[NamedCamera]) -> np.ndarray:
    """Against the mean image y axis of the cameras; that of the first where they cancel."""
    down = np.stack([camera.world_from_camera[:3, 1] for camera in cameras])
    mean = down.mean(axis=0)
    chosen = mean if np.linalg.norm(mean) > 1e-3 else down[0]
    return -chosen / np.linalg.norm(chosen)


def wedge_length(cameras: list[NamedCamera], centres: np.ndarray) -> float:
    """Of the drawn viewing pyramids: a share of the cameras' reach, less where many are drawn."""
    drawn = sum(camera.role != "other" for camera in cameras)
    return 0.1 * _reach(centres) * min(1.0, (16 / max(drawn, 1)) ** 0.5)


def camera_plot(cameras: list[NamedCamera], points: np.ndarray) -> str:
    """An SVG element with two panels of one scale. `points` [point, 3] are drawn as dots.

    Input cameras are filled, targets outlined, all others small dots. Points far outside the
    cameras' box are left out. Names show when the pointer rests on a camera.
    """
    panels = _panels(cameras)
    scale = SIZE / max(float((panel.high - panel.low).max()) for panel in panels)
    heights = [float(panel.high[1] - panel.low[1]) * scale for panel in panels]
    width = max(float(panel.high[0] - panel.low[0]) * scale for panel in panels)
    total = sum(heights) + (HEAD + FOOT) * len(panels)
    figure = figures.new_figure(LEFT + width + RIGHT, total, paper="none")
    marks, top = {"points": ("splat", "important Gaussians")}, 0.0
    for number, (panel, height) in enumerate(zip(panels, heights, strict=True)):
        figures.add_text(figure, (LEFT, top + 0.5 * HEAD), panel.title, size=15, colour=FAINT)
        right = LEFT + float(panel.high[0] - panel.low[0]) * scale
        box = (LEFT, top + HEAD, right, top + HEAD + height)
        axes = figures.add_axes(figure, box, card="none")
        marks |= _draw_panel(axes, panel, cameras, points, f"panel-{number}")
        top += HEAD + height + FOOT
    label = f"{len(cameras)} cameras, seen from above and from the side"
    return figures.svg(figure, label, marks)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Panel:
    """A view of the scene: two unit vectors, right and up on the paper, and what it shows."""

    title: str
    axes: np.ndarray  # [2, 3]
    low: np.ndarray  # [2]
    high: np.ndarray  # [2]
    wedge: float  # length of the drawn viewing pyramids


def _panels(cameras: list[NamedCamera]) -> list[_Panel]:
    """From above and from the side, each around all that is drawn of the cameras."""
    up = up_direction(cameras)
    across = _main_horizontal(cameras, up)
    centres = np.stack([camera.world_from_camera[:3, 3] for camera in cameras])
    reach, length = _reach(centres), wedge_length(cameras, centres)
    tips = np.concatenate(
        [centres, *(_wedge(camera, length)[1:] for camera in cameras if camera.role != "other")]
    )
    panels = []
    for title, upward in (("from above", -np.cross(up, across)), ("from the side", up)):
        axes = np.stack([across, upward])
        flat = tips @ axes.T
        low, high = flat.min(0) - 0.06 * reach, flat.max(0) + 0.06 * reach
        panels.append(_Panel(title=title, axes=axes, low=low, high=high, wedge=length))
    return panels


def _draw_panel(
    axes, panel: _Panel, cameras: list[NamedCamera], points: np.ndarray, name: str
) -> dict[str, tuple[str, str]]:
    """Draws the dots and the cameras; returns class and name of each camera's element by gid."""
    from matplotlib.ticker import MaxNLocator

    axes.set_xlim(panel.low[0], panel.high[0])
    axes.set_ylim(panel.low[1], panel.high[1])
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.tick_params(labelsize=12 * figures.POINT)
    axes.grid(color=figures.GRID, alpha=0.4)
    figures.name_axis(axes, "x", "units of the capture", FAINT)
    dot = float(panel.high[0] - panel.low[0]) / 420
    flat = points @ panel.axes.T
    inside = np.all((flat > panel.low) & (flat < panel.high), axis=-1)
    _add_shapes(axes, [_dot(place, dot) for place in flat[inside]], "other", "points")
    marks = {}
    for role in ("other", "target", "input"):  # inputs on top
        for number, camera in enumerate(cameras):
            if camera.role == role:
                gid = f"{name}-camera-{number}"
                _add_shapes(axes, [_outline(camera, panel, 1.8 * dot)], role, gid)
                marks[gid] = (role, f"{camera.name} ({role})")
    return marks


def _outline(camera: NamedCamera, panel: _Panel, radius: float) -> np.ndarray:
    """Corners [corner, 2] of a camera: its viewing pyramid, or a dot where it was not used."""
    if camera.role == "other":
        return _dot(panel.axes @ camera.world_from_camera[:3, 3], radius)
    return _silhouette(_wedge(camera, panel.wedge), panel.axes) @ panel.axes.T


def _dot(centre: np.ndarray, radius: float) -> np.ndarray:
    angle = np.arange(6) * (np.pi / 3)
    return centre + radius * np.stack([np.cos(angle), np.sin(angle)], axis=-1)


def _add_shapes(axes, shapes: list[np.ndarray], role: Role, gid: str) -> None:
    """Closed outlines as one element."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    if shapes:
        paths = [Path(np.concatenate([each, each[:1]]), closed=True) for each in shapes]
        fill, edge = LOOKS[role]
        axes.add_patch(
            PathPatch(
                Path.make_compound_path(*paths), facecolor=fill, edgecolor=edge, linewidth=1,
                gid=gid,
            )
        )  # fmt: skip


def _main_horizontal(cameras: list[NamedCamera], up: np.ndarray) -> np.ndarray:
    """The level direction of largest camera spread; the first camera's right where none."""
    centres = np.stack([camera.world_from_camera[:3, 3] for camera in cameras])
    level = centres - centres.mean(0)
    level = level - np.outer(level @ up, up)
    _, strength, directions = np.linalg.svd(level, full_matrices=False)
    axis = directions[0] if strength[0] > 1e-9 else cameras[0].world_from_camera[:3, 0]
    axis = axis - up * (axis @ up)
    return axis / np.linalg.norm(axis)


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


def _silhouette(wedge: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """The corners of the pyramid's outline in a panel, in order (convex hull)."""
    flat = wedge @ axes.T
    order = sorted(range(len(flat)), key=lambda index: tuple(flat[index]))

    def chain(indices):
        hull: list[int] = []
        for index in indices:
            while len(hull) > 1 and _turn(flat[hull[-2]], flat[hull[-1]], flat[index]) <= 0:
                hull.pop()
            hull.append(index)
        return hull[:-1]

    return wedge[chain(order) + chain(order[::-1])]


def _turn(first, second, third) -> float:
    (ax, ay), (bx, by) = second - first, third - first
    return float(ax * by - ay * bx)
