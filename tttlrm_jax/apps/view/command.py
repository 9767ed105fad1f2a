"""`python -m tttlrm_jax.view SCENE`: a scene, a run's output or a capture in a browser."""

import dataclasses
import sys
from pathlib import Path
from typing import Any

import numpy as np

from tttlrm_jax.apps.progress import announced
from tttlrm_jax.apps.render.cameras import middle_of
from tttlrm_jax.apps.render.scene_files import (
    OpenScene,
    background_of,
    file_in,
    open_scene,
    run_notes,
)
from tttlrm_jax.apps.view.frusta import ShownCamera, viewing_distance
from tttlrm_jax.apps.view.live import POINT_SHARE, LiveView
from tttlrm_jax.apps.view.options import ViewConfig
from tttlrm_jax.apps.view.server import check_address
from tttlrm_jax.apps.view.sources import cameras_of_capture, read_trajectory
from tttlrm_jax.captures.capture import read_capture
from tttlrm_jax.captures.forms.table import form_of, holds_cameras
from tttlrm_jax.config.command_line import run_command
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.program_cache import keep_programs
from tttlrm_jax.export.ply import read_head, read_vertices

POINTS_FILE, TRAJECTORY_FILE = "points.ply", "trajectory.txt"  # of eval.py --model ttt3r
BLACK = (0.0, 0.0, 0.0)
FOV = 0.9  # radians, of scenes without cameras
MOST_POINTS = 1_000_000


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Contents:
    """What the page shows."""

    name: str
    scene: OpenScene | None = None
    cameras: list[ShownCamera] = dataclasses.field(default_factory=list)
    points: tuple[np.ndarray, np.ndarray] | None = None  # positions, colours uint8
    path: np.ndarray | None = None  # poses [n, 4, 4]
    background: tuple[float, float, float] = BLACK


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit code (0 ended by Ctrl-C, 2 bad input)."""
    try:
        return run_command(ViewConfig, view, "python -m tttlrm_jax.view", arguments)
    except KeyboardInterrupt:
        print("\nended", file=sys.stderr)
        return 0


def view(config: ViewConfig) -> None:
    """Shows it until Ctrl-C. Raises InputError for what cannot be shown."""
    check_address(config.host, config.port)
    keep_programs()
    contents = read_contents(config)
    page = LiveView(config, contents.name, contents.background, config.exact)
    try:
        show(page, contents)
        page.wait()
    finally:
        page.close()


def read_contents(config: ViewConfig) -> Contents:
    """What the path and --cameras name. Raises InputError where that is nothing to show."""
    path, background = Path(config.scene), config.background or BLACK
    if path.is_dir() and (path / POINTS_FILE).is_file():
        _refuse_cameras(config, "are for scenes and points; an output of TTT3R has its own")
        return _of_sequence(path, background)
    if (path.is_dir() and file_in(path) is None and holds_cameras(path)) or (
        path.is_file() and form_of(path) is not None
    ):
        _refuse_cameras(config, "are for scenes and points; a capture has its own")
        return _of_capture(path, background)
    if path.is_file() and path.suffix.lower() == ".ply" and _is_of_points(path):
        shown = cameras_of_capture(config.cameras) if config.cameras is not None else []
        points = _read_points(path)
        return Contents(name=path.name, points=points, cameras=shown, background=background)
    scene = open_scene(path)
    notes = run_notes(path) if path.is_dir() else {}
    named = config.cameras or _capture_of(notes)
    cameras: list[ShownCamera] = []
    if named is not None:
        with announced(f"reading the cameras of {named}"):
            cameras = cameras_of_capture(named, scene.offset)
    colour = config.background or background_of(notes) or BLACK
    return Contents(name=scene.name, scene=scene, cameras=cameras, background=colour)


def _refuse_cameras(config: ViewConfig, why: str) -> None:
    """Raises InputError where --cameras would not be shown."""
    if config.cameras is not None:
        raise InputError.of("cameras", config.cameras, why, "leave --cameras out")


def _capture_of(notes: dict[str, Any]) -> str | None:
    """The capture of a run, where it still is where it was."""
    named = notes.get("capture")
    return named if isinstance(named, str) and Path(named).exists() else None


def _of_sequence(directory: Path, background: tuple[float, float, float]) -> Contents:
    trajectory = directory / TRAJECTORY_FILE
    path = read_trajectory(trajectory) if trajectory.is_file() else None
    return Contents(
        name=directory.absolute().name, points=_read_points(directory / POINTS_FILE), path=path,
        background=background,
    )  # fmt: skip


def _of_capture(path: Path, background: tuple[float, float, float]) -> Contents:
    capture = read_capture(path, skip_missing=True)
    with announced(f"reading the pictures of {capture.name}"):
        cameras = cameras_of_capture(path)
    found = capture.points()
    points = None
    if found is not None:
        points = found[0], np.rint(255 * found[1]).astype(np.uint8)
    return Contents(name=capture.name, cameras=cameras, points=points, background=background)


def _is_of_points(path: Path) -> bool:
    """Whether a PLY file holds coloured points, no Gaussians."""
    names = read_head(path).names
    return "opacity" not in names and {"x", "y", "z", "red", "green", "blue"} <= {*names}


def _read_points(path: Path) -> tuple[np.ndarray, np.ndarray]:
    table = read_vertices(path)
    table = table[:: -(-len(table) // MOST_POINTS) or 1]
    if not len(table):
        raise InputError.of("scene", path, "holds no point", "give another file")
    points = np.stack([table[axis] for axis in "xyz"], axis=1).astype(np.float64)
    colours = np.stack([table[name] for name in ("red", "green", "blue")], axis=1)
    fine = np.isfinite(points).all(axis=1)
    return points[fine], colours[fine].astype(np.uint8)


def show(page: LiveView, contents: Contents) -> None:
    """Puts all of it on the page."""
    page.show_cameras(contents.cameras)
    poses = [camera.world_from_camera for camera in contents.cameras]
    if contents.path is not None and len(contents.path):
        poses = list(contents.path)
        page.show_path(contents.path[:, :3, 3])
        page.look_from_behind(contents.path, FOV)
    if contents.points is not None:
        places, colours = contents.points
        size = POINT_SHARE * (viewing_distance(np.stack(poses)) if poses else _spread(places))
        page.look_at_ball(np.median(places, axis=0), _spread(places), FOV)
        page.add_points("/points", places, colours, size)
        page.say(f"{len(places):,} points")
    if contents.scene is not None:
        if not contents.cameras:
            page.look_at_ball(*middle_of(contents.scene.gaussians), FOV)
        page.add_moment(contents.name, contents.scene.gaussians)


def _spread(places: np.ndarray) -> float:
    """Median distance of points from their middle."""
    return float(np.median(np.linalg.norm(places - np.median(places, axis=0), axis=1))) or 1.0
