"""Captures on disk: the one door through which files become posed views.

A capture is a directory with a camera file (see `capture_files`) and photographs. Reading it
checks every camera and that every photograph exists; pixels are decoded only for the frames that
are used, and checked then.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tttlrm_jax.data.capture_files import READERS, Frame, read_camera_file
from tttlrm_jax.data.distortion import undistort
from tttlrm_jax.data.images import (
    WHITE,
    ResizeMode,
    composite,
    flatten,
    image_size,
    read_image,
    resize,
    round_to_patch,
)
from tttlrm_jax.data.scenes import SceneViews
from tttlrm_jax.data.view_selection import evaluation_split
from tttlrm_jax.errors import InputError
from tttlrm_jax.types import Cameras

NAMED_IN_ERROR = 8  # missing files spelled out; the rest are counted


@dataclasses.dataclass(frozen=True)
class Capture:
    """Frames in the order of the camera file; `folds` maps a number of inputs to a fixed list."""

    name: str
    directory: Path
    frames: tuple[Frame, ...]
    folds: dict[int, tuple[int, ...]]

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def world_from_camera(self) -> np.ndarray:
        """Raw poses float64 [frame, 4, 4]."""
        return np.stack([frame.world_from_camera for frame in self.frames])

    def image_size(self, index: int = 0) -> tuple[int, int]:
        """Height and width of a frame: as stated, else from the file's header."""
        frame = self.frames[index]
        return frame.size or image_size(frame.image_path)

    def split(self, num_input_views: int) -> tuple[np.ndarray, np.ndarray]:
        """Input and target frame numbers of the every-8th protocol."""
        return evaluation_split(self.world_from_camera, num_input_views, self.folds)


def read_capture(directory: str | Path, skip_missing: bool = False) -> Capture:
    """Reads the cameras of a capture directory (or of its camera file).

    Frames without their image raise one InputError that names them; `skip_missing` drops them
    instead, renumbers the rest and drops prescribed input lists that used them.
    """
    path = _find_camera_file(Path(directory))
    contents = read_camera_file(path)
    kept = [n for n, frame in enumerate(contents.frames) if frame.image_path.is_file()]
    missing = [frame.name for frame in contents.frames if not frame.image_path.is_file()]
    if missing and not skip_missing:
        raise InputError(
            f"{path}: {_listed(missing)} of {len(contents.frames)} images do not exist; restore "
            "them or leave their frames out (--skip-missing)"
        )
    if not kept:
        raise InputError(f"{path}: 0 of {len(contents.frames)} images exist; restore them")
    renumbered = {old: new for new, old in enumerate(kept)}
    folds = {
        count: tuple(renumbered[number] for number in numbers)
        for count, numbers in contents.folds.items()
        if all(number in renumbered for number in numbers)
    }
    frames = tuple(contents.frames[number] for number in kept)
    return Capture(contents.scene_name, path.parent, frames, folds)


def fitted_size(
    capture: Capture, patch_size: int, longest_side: int | None = None
) -> tuple[int, int]:
    """Height and width for the model: the first frame's shape in multiples of the patch.

    `longest_side` shrinks larger images to about that many pixels; smaller ones keep their size.
    """
    height, width = capture.image_size()
    scale = 1.0 if longest_side is None else min(1.0, longest_side / max(height, width))
    return round_to_patch(height * scale, width * scale, patch_size)


def load_views(
    capture: Capture,
    frame_indices: Sequence[int] | np.ndarray,
    height: int,
    width: int,
    *,
    resize_mode: ResizeMode = "lact",
    background: tuple[float, float, float] = WHITE,
) -> tuple[np.ndarray, Cameras]:
    """Images float32 [view, height, width, 3] in [0, 1] and their cameras.

    The cameras hold NumPy float64 arrays in the capture's own frame and scale; the intrinsics
    belong to the resized images.
    """
    indices = _checked(capture, frame_indices)
    views = load_scene_views(capture, indices, (height, width), resize_mode, background)
    poses = capture.world_from_camera[indices]
    return views.image, Cameras(poses, views.intrinsics, height, width)  # type: ignore[arg-type]


def load_scene_views(
    capture: Capture,
    frame_indices: np.ndarray,
    size: tuple[int, int],
    resize_mode: ResizeMode,
    background: tuple[float, float, float],
) -> SceneViews:
    """Decodes, undistorts, composites and resizes the frames; depth is unknown (0)."""
    loaded = [
        _load_frame(capture.frames[index], size, resize_mode, background) for index in frame_indices
    ]
    images, masks, intrinsics = (np.stack(part) for part in zip(*loaded, strict=True))
    return SceneViews(images, masks, np.zeros_like(masks), intrinsics)


@dataclasses.dataclass(frozen=True)
class CaptureScene:
    """A capture as a `Scene` of the training pipeline."""

    capture: Capture
    size: tuple[int, int]
    resize_mode: ResizeMode
    background: tuple[float, float, float]

    @property
    def name(self) -> str:
        return self.capture.name

    @property
    def world_from_camera(self) -> np.ndarray:
        return self.capture.world_from_camera

    def read(self, view_indices: np.ndarray) -> SceneViews:
        return load_scene_views(
            self.capture, view_indices, self.size, self.resize_mode, self.background
        )


def _load_frame(frame: Frame, size, resize_mode, background):
    """Image float32 [h, w, 3], coverage float32 [h, w] and intrinsics of one frame."""
    pixels = read_image(frame.image_path)
    actual = pixels.shape[:2]
    if frame.size is not None and actual != frame.size:
        raise InputError(
            f"image={frame.image_path} is {actual[1]}x{actual[0]} pixels, its camera says "
            f"{frame.size[1]}x{frame.size[0]}; resize the image or correct w, h and intrinsics"
        )
    if frame.distortion:
        pixels = undistort(pixels, frame.intrinsics, frame.distortion)
    colour, intrinsics = resize(flatten(pixels, background), frame.intrinsics, size, resize_mode)
    image, mask = composite(colour)
    if pixels.shape[-1] == 4:
        alpha, _ = resize(pixels[..., 3], frame.intrinsics, size, resize_mode)
        mask = alpha.astype(np.float32) / np.float32(255)
    return image, mask, intrinsics


def _find_camera_file(path: Path) -> Path:
    if path.is_file() and path.name in READERS:
        return path
    known = " or ".join(READERS)
    if not path.is_dir():
        raise InputError(f"capture={path} is not a directory; name the one that holds {known}")
    found = [path / name for name in READERS if (path / name).is_file()]
    if not found:
        raise InputError(f"capture={path} holds no {known}; export the cameras to one of them")
    return found[0]


def _checked(capture: Capture, frame_indices) -> np.ndarray:
    indices = np.asarray(frame_indices, np.int64).reshape(-1)
    if not indices.size:
        raise InputError("frame_indices=[] selects no frame; ask for at least one")
    outside = indices[(indices < 0) | (indices >= len(capture))]
    if outside.size:
        raise InputError.of(
            "frame_indices", outside.tolist(), f"are not in 0..{len(capture) - 1}",
            f"the capture {capture.name} has {len(capture)} frames",
        )  # fmt: skip
    return indices


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:NAMED_IN_ERROR])
    more = len(names) - NAMED_IN_ERROR
    return f"{shown} and {more} more" if more > 0 else shown
