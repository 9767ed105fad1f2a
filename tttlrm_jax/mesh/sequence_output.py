"""Depth views of what `eval.py --model ttt3r` wrote: depth maps, the trajectory, points.

Pixels lie at whole numbers in TTT3R's pointmaps, and the middle of a picture is the pixel (width //
2, height // 2). One focal length is taken for the sequence, the median over its frames.
"""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from tttlrm_jax.captures.pictures.depth_files import read_png_depth
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.geometry.poses import matrix_from_encoding
from tttlrm_jax.export.ply import read_vertices
from tttlrm_jax.mesh.views import DepthView

RECORD, TRAJECTORY, POINTS, DEPTH = "frames.jsonl", "trajectory.txt", "points.ply", "depth"
MILLIMETRES = 1000.0
NEAR_SURE = 0.02  # of the depth: so near to a point of points.ply a pixel counts as sure


class SequenceViews(NamedTuple):
    """Depth views of a sequence; points float64 [point, 3] with colours uint8 [point, 3] where
    there are any; and what was left out, a sentence each."""

    views: list[DepthView]
    points: np.ndarray | None
    colours: np.ndarray | None
    notes: tuple[str, ...]


def is_sequence_output(directory: Path) -> bool:
    """Whether `eval.py --model ttt3r` began to write here."""
    return (directory / RECORD).is_file()


def read_sequence_output(directory: Path, most_views: int | None = None) -> SequenceViews:
    """At most so many frames, evenly. Raises InputError where depth or poses are not there."""
    focal, poses = _focal(directory / RECORD), _poses(directory / TRAJECTORY)
    files = sorted((directory / DEPTH).glob("*.png")) or sorted((directory / DEPTH).glob("*.npy"))
    if not files:
        raise InputError.of(
            "source", directory, "holds no depth maps",
            "run eval.py --model ttt3r again with --depth-format png or npy",
        )  # fmt: skip
    points, colours = _points(directory / POINTS)
    tree = None if points is None else cKDTree(points)
    usable = [n for n in range(min(len(files), len(poses))) if np.isfinite(poses[n]).all()]
    lost = max(len(files), len(poses)) - len(usable)
    notes = (f"{lost} of {lost + len(usable)} frames have no pose or no depth: left out",)
    if most_views is not None and len(usable) > most_views:
        usable = [
            usable[n] for n in np.linspace(0, len(usable) - 1, most_views).round().astype(int)
        ]
    views = [_view(_read_depth(files[n]), poses[n], focal, tree) for n in usable]
    return SequenceViews(views, points, colours, notes if lost else ())


def _view(depth: np.ndarray, pose: np.ndarray, focal: float, tree: cKDTree | None) -> DepthView:
    height, width = depth.shape
    lens = np.array([focal, focal, width // 2 + 0.5, height // 2 + 0.5])
    view = DepthView(depth=depth, world_from_camera=pose, intrinsics=lens)
    if tree is None:
        return view
    surface, sure = view.surface, np.zeros(depth.shape, bool)
    distance = tree.query(view.points(), workers=-1)[0]
    sure[surface] = distance <= NEAR_SURE * depth[surface]
    kept = np.where(sure, depth, np.float32(0))
    return DepthView(depth=kept, world_from_camera=pose, intrinsics=lens)


def _read_depth(path: Path) -> np.ndarray:
    """float32 [height, width], 0 where it is not known."""
    if path.suffix == ".png":
        return read_png_depth(path, MILLIMETRES)
    try:
        depth = np.load(path)
    except (ValueError, OSError, EOFError):
        raise InputError(f"depth={path} is no NumPy file; run eval.py again") from None
    if depth.ndim != 2:
        raise InputError.of("depth", path, f"has shape {depth.shape}", "run eval.py again")
    return np.where(np.isfinite(depth) & (depth > 0), depth, 0).astype(np.float32)


def _focal(path: Path) -> float:
    """The median focal length in pixels of the frames."""
    try:
        lines = [json.loads(line) for line in path.read_text("utf-8").splitlines() if line]
        found = np.array([line["focal"] for line in lines], np.float64)
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"source={path} is not what eval.py writes; run it again") from None
    found = found[np.isfinite(found) & (found > 0)]
    if not len(found):
        raise InputError(f"source={path} has no focal length above 0; run eval.py again")
    return float(np.median(found))


def _poses(path: Path) -> np.ndarray:
    """World from camera float64 [frame, 4, 4] of TUM's lines; NaN where those are."""
    try:
        table = np.loadtxt(path, ndmin=2)
    except (OSError, ValueError):
        raise InputError(
            f"source={path} cannot be read as a trajectory; run eval.py again"
        ) from None
    if table.shape[1] != 8:
        raise InputError(f"source={path} has no 8 columns (time, place, quaternion)")
    poses = np.full((len(table), 4, 4), np.nan)
    known = np.isfinite(table).all(axis=1)
    poses[known] = matrix_from_encoding(table[known][:, [1, 2, 3, 7, 4, 5, 6]])
    return poses


def _points(path: Path) -> tuple[np.ndarray | None, np.ndarray | None]:
    if not path.is_file():
        return None, None
    table = read_vertices(path)
    if not len(table):
        return None, None
    columns = [np.stack([table[name] for name in names], axis=-1) for names in _COLUMNS]
    return columns[0].astype(np.float64), columns[1].astype(np.uint8)


_COLUMNS = (("x", "y", "z"), ("red", "green", "blue"))
