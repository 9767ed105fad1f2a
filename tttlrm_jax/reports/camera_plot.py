"""Where the cameras stood, as SVG: from above and from the side, with the scene as faint dots."""

import dataclasses
import html
from typing import Literal

import numpy as np

SIZE = 420  # pixels of each panel's longer side
PAD = 26
Role = Literal["input", "target", "other"]


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
    cameras' box are left out.
    """
    up = up_direction(cameras)
    across = _main_horizontal(cameras, up)
    deep = np.cross(up, across)
    centres = np.stack([camera.world_from_camera[:3, 3] for camera in cameras])
    reach, length = _reach(centres), wedge_length(cameras, centres)
    tips = np.concatenate(
        [centres, *(_wedge(camera, length)[1:] for camera in cameras if camera.role != "other")]
    )
    panels = [("from above", across, -deep), ("from the side", across, up)]
    drawings = []
    for title, right, upward in panels:
        axes = np.stack([right, -upward])
        flat = tips @ axes.T
        low, high = flat.min(0) - 0.06 * reach, flat.max(0) + 0.06 * reach
        drawings.append((title, axes, low, high))
    scale = (SIZE - 2 * PAD) / max(float((high - low).max()) for _, _, low, high in drawings)
    parts, offset, width = [], 0.0, 0.0
    for title, axes, low, high in drawings:
        panel_width, panel_height = (high - low) * scale
        parts.append(_panel(title, cameras, points, axes, low, high, scale, offset, length))
        offset += panel_height + 2 * PAD
        width = max(width, panel_width)
    label = f"{len(cameras)} cameras, seen from above and from the side"
    return (
        f'<svg viewBox="0 0 {width + 2 * PAD:.0f} {offset:.0f}" role="img" '
        f'aria-label="{label}">{"".join(parts)}</svg>'
    )


def _panel(title, cameras, points, axes, low, high, scale, offset, length) -> str:
    def place(point):
        x, y = (axes @ point - low) * scale
        return x + PAD, y + PAD + offset

    def coordinates(corners):
        return " ".join(f"{x:.1f},{y:.1f}" for x, y in map(place, corners))

    flat = points @ axes.T
    inside = np.all((flat > low) & (flat < high), axis=-1)
    parts = [f'<text x="{PAD}" y="{offset + 16:.1f}">{title}</text>']
    parts += [
        f'<circle class="splat" r="1.1" cx="{x:.1f}" cy="{y:.1f}"/>'
        for x, y in map(place, points[inside])
    ]
    for role in ("other", "target", "input"):  # inputs on top
        for camera in (camera for camera in cameras if camera.role == role):
            title = f"<title>{html.escape(camera.name)} ({role})</title>"
            if role == "other":
                x, y = place(camera.world_from_camera[:3, 3])
                parts.append(f'<circle class="other" r="1.8" cx="{x:.1f}" cy="{y:.1f}">')
                parts.append(f"{title}</circle>")
            else:
                corners = coordinates(_silhouette(_wedge(camera, length), axes))
                parts.append(f'<polygon class="{role}" points="{corners}">{title}</polygon>')
    return "".join(parts)


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
