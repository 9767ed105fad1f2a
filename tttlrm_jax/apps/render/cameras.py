"""Where a scene is looked at from: cameras of a file, or a path around it."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tttlrm_jax.apps.render.options import RenderConfig
from tttlrm_jax.captures.camera_files import Frame
from tttlrm_jax.captures.capture import read_cameras
from tttlrm_jax.captures.other_views import stated_size
from tttlrm_jax.captures.pictures.frame_pixels import check_size
from tttlrm_jax.captures.pictures.images import image_size, resize_intrinsics
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.files.packaged_files import capture_path
from tttlrm_jax.core.geometry.offsets import moved_poses
from tttlrm_jax.core.geometry.paths import circle_path, orbit_path
from tttlrm_jax.core.types import Cameras, Gaussians
from tttlrm_jax.export.splats.writable import opacity
from tttlrm_jax.sequences.sequence import FrameSelection

ORBIT_SIZE = (720, 1280)  # height and width without cameras
MOST_LOOKED_AT = 200_000  # Gaussians that say where a scene is
EXTENT_SHARE, MARGIN = 0.8, 1.25  # of their opacity that an orbit has in view, with space around


@dataclasses.dataclass(frozen=True, eq=False)
class Shot:
    """One picture to be taken: the name of its file and its camera, relative to the offset."""

    name: str
    camera: Cameras  # NumPy, float64, without leading axes


def shots_of(config: RenderConfig, gaussians: Gaussians, offset: np.ndarray) -> list[Shot]:
    """What the options ask for. `offset` [3] is what the scene's means are relative to.

    Raises InputError for a camera file that cannot be used.
    """
    if config.cameras is None:
        assert config.orbit is not None
        return around_scene(config, gaussians)
    size = None if config.size is None else (config.size[1], config.size[0])
    cameras = camera_shots(config.cameras, config.frames, size, offset)
    if config.orbit is None:
        return cameras
    return around_cameras([shot.camera for shot in cameras], config.orbit, size)


def camera_shots(
    path: str, numbers: str | None, size: tuple[int, int] | None, offset: np.ndarray
) -> list[Shot]:
    """Those of a camera file; `size` is (height, width), None for each camera's own."""
    every = read_cameras(capture_path(path), "cameras")
    frames = every
    if numbers is not None:
        named = FrameSelection(frames=numbers).numbers(len(every))
        frames = tuple(every[number] for number in named)
    if not frames:
        raise InputError.of(
            "frames", numbers, f"names none of the {len(every)} cameras of {path}",
            f"use numbers from 0 to {len(every) - 1}",
        )  # fmt: skip
    poses = moved_poses(np.stack([frame.world_from_camera for frame in frames]), offset)
    names = file_names(frames)
    return [
        Shot(name, _camera(frame, pose, size))
        for frame, pose, name in zip(frames, poses, names, strict=True)
    ]


def _camera(frame: Frame, pose: Any, size: tuple[int, int] | None) -> Cameras:
    if frame.size is None and os.path.isfile(frame.image_path):
        own = image_size(frame.image_path)
        check_size(frame, own)
    else:
        own = stated_size(frame, "cameras")
    wanted = size or own
    lens: Any = resize_intrinsics(frame.intrinsics, own, wanted, "lact")
    return Cameras(pose, lens, *wanted)


def file_names(frames: Sequence[Frame]) -> list[str]:
    """A file's name without suffix for every frame: its own, numbered where that is not unique."""
    stems = [Path(frame.name).stem for frame in frames]
    unique = len({stem.lower() for stem in stems}) == len(stems)
    return [
        stem if unique else f"{frame.number:06d}-{stem}"
        for frame, stem in zip(frames, stems, strict=True)
    ]


def around_cameras(
    cameras: Sequence[Cameras], count: int, size: tuple[int, int] | None
) -> list[Shot]:
    """A path around what they look at, with the lens in the middle of theirs."""
    height, width = size or (cameras[0].height, cameras[0].width)
    lenses = [
        resize_intrinsics(
            np.asarray(each.intrinsics), (each.height, each.width), (height, width), "lact"
        )
        for each in cameras
    ]
    path = orbit_path(np.stack([each.world_from_camera for each in cameras]), count)
    return _numbered(path, np.median(lenses, axis=0), height, width)


def around_scene(config: RenderConfig, gaussians: Gaussians) -> list[Shot]:
    """Once around the middle of the Gaussians, from where most of them are in view."""
    height, width = ORBIT_SIZE if config.size is None else config.size[::-1]
    centre, extent = middle_of(gaussians)
    half = np.radians(config.fov) / 2
    distance = config.distance or MARGIN * extent / np.sin(half)
    path = circle_path(
        centre, distance, config.orbit or 1, up=np.array(config.up), elevation=config.elevation
    )
    focal = min(height, width) / 2 / np.tan(half)
    return _numbered(path, np.array([focal, focal, width / 2, height / 2]), height, width)


def _numbered(path: np.ndarray, lens: Any, height: int, width: int) -> list[Shot]:
    cameras = [Cameras(pose, lens, height, width) for pose in path]  # type: ignore[arg-type]
    return [Shot(f"{number:06d}", camera) for number, camera in enumerate(cameras)]


def middle_of(gaussians: Gaussians) -> tuple[np.ndarray, float]:
    """(medians of the positions float64 [3], radius of a ball around them with `EXTENT_SHARE`),
    where Gaussians count by their opacity: a few far away do not matter.

    Raises InputError for a scene of nothing.
    """
    step = -(-len(gaussians.mean) // MOST_LOOKED_AT) or 1
    mean = np.asarray(gaussians.mean)[::step].astype(np.float64)
    weight = opacity(np.asarray(gaussians.opacity_logit)[::step])
    fine = np.isfinite(mean).all(axis=1) & np.isfinite(weight) & (weight > 0)
    if not fine.any():
        raise InputError("scene: no Gaussian can be seen; give another file")
    mean, weight = mean[fine], weight[fine]
    centre = np.array([_quantile(axis, weight, 0.5) for axis in mean.T])
    extent = _quantile(np.linalg.norm(mean - centre, axis=1), weight, EXTENT_SHARE)
    return centre, max(extent, 1e-6)


def _quantile(values: np.ndarray, weight: np.ndarray, share: float) -> float:
    order = np.argsort(values)
    running = np.cumsum(weight[order])
    return float(values[order[np.searchsorted(running, share * running[-1])]])
