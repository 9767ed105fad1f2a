"""Captures on disk: the one door through which files become posed views.

A capture is a directory with a camera file (see `camera_files`) and photographs. Reading it
checks every camera and that every photograph exists; pixels are decoded only for the frames that
are used, and checked then.
"""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tttlrm_jax.captures.beside import left_out, without_cameras
from tttlrm_jax.captures.camera_files import CameraFile, Frame, check_no_directories
from tttlrm_jax.captures.colmap.points import read_points
from tttlrm_jax.captures.forms.table import find_camera_file, other_forms_note, read_cameras_at
from tttlrm_jax.captures.frame_values import check_values
from tttlrm_jax.captures.lenses.models import PANORAMA, PANORAMA_REMEDY
from tttlrm_jax.captures.pictures.depth_files import (
    DISPARITY_FOLDER,
    disparity_path,
    read_disparity,
)
from tttlrm_jax.captures.pictures.frame_pixels import (
    check_size,
    read_pixels,
    read_valid,
    rescaled,
)
from tttlrm_jax.captures.pictures.images import (
    WHITE,
    ResizeMode,
    flattened_to_size,
    image_size,
    is_transparent,
    open_image,
    resize_intrinsics,
    resize_map,
)
from tttlrm_jax.captures.pictures.masks import find_masks
from tttlrm_jax.captures.view_selection import TARGET_STRIDE, evaluation_split
from tttlrm_jax.core.errors import InputError, listed
from tttlrm_jax.core.geometry.offsets import moved_poses
from tttlrm_jax.core.scenes import SceneViews
from tttlrm_jax.core.types import Cameras


@dataclasses.dataclass(frozen=True)
class Capture:
    """Frames in the order of the camera file; `folds` maps a number of inputs to a fixed list.

    Frames are addressed by their position here; `frame_numbers` are those of the camera file,
    which differ where frames without an image were left out. `notes` say what was guessed or left
    out while reading; the commands print them.
    """

    name: str
    directory: Path
    frames: tuple[Frame, ...]
    folds: dict[int, tuple[int, ...]]
    notes: tuple[str, ...] = ()
    points_file: Path | None = None
    # [3, 4] from the world of that file to the capture's; None: it is the same
    points_frame: np.ndarray | None = dataclasses.field(default=None, compare=False)

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def world_from_camera(self) -> np.ndarray:
        """Raw poses float64 [frame, 4, 4]."""
        return np.stack([frame.world_from_camera for frame in self.frames])

    @property
    def frame_numbers(self) -> np.ndarray:
        """Places in the camera file, ascending [frame]."""
        return np.array([frame.number for frame in self.frames])

    def has_alpha(self) -> bool:
        """Whether every frame has coverage: transparency, a mask, or a lens that is undistorted.

        Reads headers only.
        """
        return all(
            frame.mask is not None
            or bool(frame.distortion)
            or open_image(frame.image_path, is_transparent)
            for frame in self.frames
        )

    def has_disparity(self) -> bool:
        """Whether disparity lies beside the capture for every frame (`datasets.prepare_depth`)."""
        return all(disparity_path(self.directory, frame.name).is_file() for frame in self.frames)

    def image_size(self, index: int = 0) -> tuple[int, int]:
        """Height and width of a frame: as stated, else from the file's header.

        Raises InputError where the intrinsics are those of pictures of another size.
        """
        frame = self.frames[index]
        if frame.size is not None:
            return frame.size
        size = image_size(frame.image_path)
        check_size(frame, size)
        return size

    def cameras(
        self,
        frames: Sequence[int] | np.ndarray | None = None,
        resolution: tuple[int, int] | None = None,
        resize_mode: ResizeMode = "lact",
    ) -> Cameras:
        """Cameras [frame, ...] (NumPy float64) in the capture's frame; reads headers only.

        `frames` are positions; None: all. Intrinsics belong to images resized to `resolution`
        (height, width; None: that of the first of these frames).
        """
        indices = _checked(self, range(len(self)) if frames is None else frames)
        size = self.image_size(indices[0]) if resolution is None else resolution
        lenses: Any = np.stack([
            resize_intrinsics(self.frames[n].intrinsics, self.image_size(n), size, resize_mode)
            for n in indices
        ])  # fmt: skip
        poses: Any = self.world_from_camera[indices]
        return Cameras(poses, lenses, *size)

    def cameras_by_size(self) -> list[Cameras]:
        """All cameras (NumPy float64) in the capture's frame, those of pictures of one size
        together; reads headers only."""
        return cameras_by_size(self.frames, [self.image_size(n) for n in range(len(self))])

    def points(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Triangulated positions float64 [point, 3] in the capture's frame, and their colours
        float32 [point, 3] in [0, 1]; None where the capture has none.

        Raises InputError for a broken file.
        """
        if self.points_file is None:
            return None
        positions, colours = read_points(self.points_file)
        if self.points_frame is not None:
            positions = positions @ self.points_frame[:, :3].T + self.points_frame[:, 3]
        return (positions, colours) if len(positions) else None

    def split(self, num_input_views: int) -> tuple[np.ndarray, np.ndarray]:
        """Positions of the input and target frames of the every-8th protocol."""
        return evaluation_split(
            self.world_from_camera, num_input_views, self.folds, self.frame_numbers
        )


def read_capture(
    directory: str | Path, skip_missing: bool = False, intrinsics_scale: float | None = None
) -> Capture:
    """Reads the cameras of a capture directory (or of its camera file).

    Frames without their image raise one InputError that names them; `skip_missing` drops them
    instead, with the prescribed input lists that used them. The others keep their numbers, so
    targets stay targets. `intrinsics_scale` multiplies the intrinsics of the file, which belong to
    pictures of another size: 0.25 where the pictures are a quarter of theirs.
    """
    path = find_camera_file(Path(directory))
    contents = read_cameras_at(path)
    notes = (*contents.notes, *other_forms_note(Path(directory), path))
    contents = dataclasses.replace(contents, notes=notes)
    return make_capture(contents, path, skip_missing, intrinsics_scale)


def make_capture(
    contents: CameraFile,
    path: Path,
    skip_missing: bool = False,
    intrinsics_scale: float | None = None,
) -> Capture:
    """A capture of what the camera file `path` says; checks that its images exist.

    Masks beside the images are found here.
    """
    _refuse_panoramas(path, contents.frames)
    check_no_directories(path, contents.frames)
    exists = [os.path.isfile(frame.image_path) for frame in contents.frames]
    kept = [n for n, found in enumerate(exists) if found]
    missing = [frame.name for frame in contents.frames if not exists[frame.number]]
    if missing and not skip_missing:
        raise InputError(
            f"{path}: {listed(missing)} of {len(contents.frames)} images do not exist"
            f"{_looked_in(contents)}; restore them or leave their frames out (--skip-missing)"
        )
    if not kept:
        raise InputError(
            f"{path}: 0 of {len(contents.frames)} images exist{_looked_in(contents)}; restore them"
        )
    position = {number: place for place, number in enumerate(kept)}
    folds = {
        count: tuple(position[number] for number in numbers)
        for count, numbers in contents.folds.items()
        if all(number in position for number in numbers)
    }
    frames = [contents.frames[number] for number in kept]
    notes = [*contents.about_pictures, *contents.notes]
    if intrinsics_scale is not None:
        frames = [rescaled(frame, intrinsics_scale) for frame in frames]
        notes.append(f"the intrinsics of the file are multiplied by {intrinsics_scale:g}, as asked")
    check_values(path, frames)
    directory = path if path.is_dir() else path.parent
    frames, note = _with_masks(frames, directory)
    notes += [] if note is None else [note]
    notes += _not_read(frames, directory, any("left out" in note for note in notes))
    return Capture(
        contents.scene_name,
        directory,
        tuple(frames),
        folds,
        tuple(notes),
        contents.points,
        contents.points_frame,
    )


def _looked_in(contents: CameraFile) -> str:
    folders = [str(folder) for folder in contents.looked_in]
    return f" (looked in {listed(folders, 10)})" if folders else ""


def _with_masks(frames: list[Frame], directory: Path) -> tuple[list[Frame], str | None]:
    paths, stated = [frame.image_path for frame in frames], [frame.mask for frame in frames]
    masks, note = find_masks(paths, stated, directory)
    masked = zip(frames, masks, strict=True)
    return [dataclasses.replace(frame, mask=mask) for frame, mask in masked], note


def _not_read(frames: list[Frame], directory: Path, said: bool) -> tuple[str, ...]:
    """Names depth and masks that lie in the capture, in other places than those looked into.

    And what is beside the pictures and has no camera, unless that is `said` already.
    """
    pictures = [frame.image_path for frame in frames]
    masks = [frame.mask.path for frame in frames if frame.mask and frame.mask.path]
    root = os.path.commonpath([os.path.abspath(directory), os.path.abspath(pictures[0])])
    used = [*pictures, *masks]
    apart = left_out(Path(root), used, names=(DISPARITY_FOLDER,), kinds=("depth", "masks"))
    return (*apart, *without_cameras(Path(root), pictures, masks, said))


def read_cameras(
    path: str | Path, field: str = "query", panoramas: bool = False
) -> tuple[Frame, ...]:
    """The cameras of a capture directory or of its camera file; images need not exist.

    With `panoramas` there may be such among them, whose intrinsics are NaN.
    """
    camera_file = find_camera_file(Path(path), field)
    frames = read_cameras_at(camera_file).frames
    if not panoramas:
        _refuse_panoramas(camera_file, frames)
    return frames


def _refuse_panoramas(path: Path, frames: Sequence[Frame]) -> None:
    first = next((frame for frame in frames if frame.distortion == PANORAMA), None)
    if first is not None:
        raise InputError(
            f"{path}: frame {first.number} ({first.name}) has camera_model={PANORAMA.model}; "
            f"{PANORAMA_REMEDY}"
        )


def cameras_by_size(frames: Sequence[Frame], sizes: Sequence[tuple[int, int]]) -> list[Cameras]:
    """Cameras (NumPy float64) of frames, those of pictures of one size (height, width) together."""
    groups: dict[tuple[int, int], list[Frame]] = {}
    for frame, size in zip(frames, sizes, strict=True):
        groups.setdefault(size, []).append(frame)
    made = []
    for size, group in groups.items():
        poses: Any = np.stack([frame.world_from_camera for frame in group])
        lenses: Any = np.stack([frame.intrinsics for frame in group])
        made.append(Cameras(poses, lenses, *size))
    return made


def load_views(
    capture: Capture,
    frame_indices: Sequence[int] | np.ndarray,
    height: int,
    width: int,
    *,
    resize_mode: ResizeMode = "lact",
    background: tuple[float, float, float] = WHITE,
    offset: np.ndarray | float = 0.0,
) -> tuple[np.ndarray, Cameras]:
    """Images float32 [view, height, width, 3] in [0, 1] and their cameras.

    The cameras hold NumPy float64 arrays in the capture's own frame and scale, relative to
    `offset` [3]; the intrinsics belong to the resized images.
    """
    indices = _checked(capture, frame_indices)
    views = CaptureScene(capture, (height, width), resize_mode, background).read(indices)
    poses = moved_poses(capture.world_from_camera[indices], offset)
    return views.image, Cameras(poses, views.intrinsics, height, width)  # type: ignore[arg-type]


@dataclasses.dataclass(frozen=True)
class CaptureScene:
    """A capture as a `Scene` of the training pipeline; `use_mask=False` leaves masks out.

    With `use_disparity` its views have depth: the inverse of the disparity beside it. With
    `use_valid` they know which pixels show the scene, unless all of them do.
    """

    capture: Capture
    size: tuple[int, int]
    resize_mode: ResizeMode
    background: tuple[float, float, float]
    use_mask: bool = True
    holdout_every: int = TARGET_STRIDE  # frames so numbered are held out; 0: none
    use_disparity: bool = False
    use_valid: bool = False

    @property
    def name(self) -> str:
        return self.capture.name

    @property
    def world_from_camera(self) -> np.ndarray:
        return self.capture.world_from_camera

    @property
    def held_out(self) -> np.ndarray | None:
        if not self.holdout_every:
            return None
        return self.capture.frame_numbers % self.holdout_every == 0

    def read(self, view_indices: np.ndarray) -> SceneViews:
        """Decodes, masks, undistorts, composites, resizes; coverage where all frames have it."""
        frames = [self.capture.frames[index] for index in view_indices]
        images, masks, intrinsics, valid = zip(*map(self._load, frames), strict=True)
        masked = self.use_mask and not any(mask is None for mask in masks)
        return SceneViews(
            image=np.stack(images),
            intrinsics=np.stack(intrinsics),
            mask=np.stack(masks) if masked else None,
            depth=np.stack([self._depth(each) for each in frames]) if self.use_disparity else None,
            valid=_all_valid(valid, self.size),
        )

    def _load(self, frame: Frame):
        """Image float32 [h, w, 3], coverage float32 [h, w] or None, intrinsics, valid or None."""
        pixels = read_pixels(frame)
        loaded = flattened_to_size(
            pixels, frame.intrinsics, self.size, self.resize_mode, self.background
        )
        if not self.use_valid:
            return *loaded, None
        return *loaded, read_valid(frame, pixels.shape[:2], self.size, self.resize_mode)

    def _depth(self, frame: Frame) -> np.ndarray:
        depth = read_disparity(disparity_path(self.capture.directory, frame.name))
        return resize_map(depth, self.size, self.resize_mode)


def _all_valid(valid: Sequence[np.ndarray | None], size: tuple[int, int]) -> np.ndarray | None:
    """bool [view, *size]; None where all pixels of all views are."""
    if all(each is None or each.all() for each in valid):
        return None
    return np.stack([np.ones(size, bool) if each is None else each for each in valid])


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
