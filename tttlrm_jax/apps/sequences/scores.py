"""Scores of a sequence against what is true of it, gathered frame by frame.

What scores need of every pixel goes to files in a scratch folder while frames come, so memory
stays flat; it is read back, mapped, at the end. Poses are kept: 256 bytes a frame.
"""

import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tttlrm_jax.api.sequences import FrameResult
from tttlrm_jax.config.evaluation import DepthAlignment
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.geometry.alignment import median_frame, placed_by_medians, transform_points
from tttlrm_jax.core.geometry.pointmaps import unproject
from tttlrm_jax.core.geometry.poses import rigid_inverse
from tttlrm_jax.metrics.depth import depth_errors, valid_pixels
from tttlrm_jax.metrics.point_clouds import reconstruction_errors
from tttlrm_jax.metrics.resample import resize_cubic
from tttlrm_jax.metrics.trajectory import TrajectoryErrors, trajectory_errors
from tttlrm_jax.sequences.frame_images import Fit

RECONSTRUCTION_CROP = 224  # pixels in the middle whose points are compared


class SequenceScores:
    """Takes results one by one; `depth`, `trajectory` and `reconstruction` score them.

    Each gives None, or raises InputError, where there is not enough truth to score against.
    """

    def __init__(
        self,
        scratch: Path,
        fit: Fit,
        *,
        intrinsics: np.ndarray | None = None,
        max_depth: float | None = None,
        reconstruction: bool = False,
    ):
        self._scratch, self._fit, self._max_depth = scratch, fit, max_depth
        self._lens = None if intrinsics is None else fit.intrinsics(intrinsics)
        self._wants_points = reconstruction and self._lens is not None
        self._first_name = ""
        self._has_depth = False  # of any frame
        self._unbounded = 0  # values of true depth that are not finite
        self.predicted: list[np.ndarray] = []
        self.true: list[np.ndarray | None] = []
        scratch.mkdir(parents=True)
        names = ("depth", "true_depth", "points", "true_points", "inner")
        self._files = {name: (scratch / name).open("wb") for name in names}

    def add(self, result: FrameResult) -> None:
        """Notes poses and, where true depth is known, its pixels."""
        frame = result.frame
        self._first_name = self._first_name or frame.name
        self.predicted.append(result.world_from_camera)
        self.true.append(frame.world_from_camera)
        if frame.depth is None:
            return
        self._has_depth = True
        known = frame.depth[self._fit.window(*frame.depth.shape)]
        self._unbounded += int((~np.isfinite(known)).sum())
        predicted = resize_cubic(result.prediction.points_self[..., 2], known.shape)
        pixels = valid_pixels(predicted, known, self._max_depth)
        for name, values in zip(("depth", "true_depth"), pixels, strict=True):
            self._files[name].write(values.astype(np.float32).tobytes())
        first, pose = self.true[0], frame.world_from_camera  # predicted points are in that camera
        if self._wants_points and first is not None and pose is not None:
            self._add_points(result, frame.depth, rigid_inverse(first) @ pose)

    def _add_points(self, result: FrameResult, depth: np.ndarray, relative: np.ndarray) -> None:
        """Points of pixels with true depth, both in the first camera, and which are inner ones."""
        assert self._lens is not None
        near = self._fit.nearest(depth)
        true = transform_points(relative, unproject(near, self._lens))
        valid = (
            (near > 0)
            & np.isfinite(near)
            & np.isfinite(result.prediction.points_world).all(axis=-1)
        )
        inner = np.zeros(near.shape, bool)
        inner[_middle(near.shape[0]), _middle(near.shape[1])] = True
        for name, values in (
            ("points", result.prediction.points_world[valid].astype(np.float32)),
            ("true_points", true[valid].astype(np.float32)),
            ("inner", inner[valid]),
        ):
            self._files[name].write(values.tobytes())

    def depth(
        self, alignments: tuple[DepthAlignment, ...], clip: float | None = None
    ) -> dict[str, dict[str, Any]] | None:
        """Depth errors by alignment; None where no frame had true depth.

        Raises InputError where all of it is unknown.
        """
        predicted, true = self._mapped("depth", np.float32), self._mapped("true_depth", np.float32)
        if not predicted.size and self._has_depth:
            below = "" if self._max_depth is None else f" and below {self._max_depth:g} m"
            raise InputError.of(
                "true depth", "0 pixels", f"are finite, above 0{below}", "check its files and unit"
            )
        if not predicted.size:
            return None
        made = {name: depth_errors(predicted, true, name, clip) for name in alignments}
        return {name: dataclasses.asdict(errors) for name, errors in made.items()}

    def trajectory(
        self, predicted: Sequence[np.ndarray] | np.ndarray | None = None
    ) -> tuple[TrajectoryErrors, np.ndarray] | None:
        """Errors over frames with a true pose, and those poses; None where there are none.

        Of `predicted` poses [frame, 4, 4], else of those that came with the frames.
        """
        poses = self.predicted if predicted is None else predicted
        known = [index for index, pose in enumerate(self.true) if pose is not None]
        if not known:
            return None
        true = np.stack([np.asarray(self.true[index]) for index in known])
        return trajectory_errors(np.stack([poses[index] for index in known]), true), true

    def reconstruction(self) -> dict[str, float] | None:
        """Accuracy, completion, chamfer and normal consistency of the inner points."""
        if not self._wants_points:
            return None
        first = self.true[0] if self.true else None
        if first is None:
            raise InputError.of(
                "first frame", self._first_name,
                "has no true pose, and predicted points are in its camera",
                "start with a frame whose pose is known",
            )  # fmt: skip
        predicted = self._mapped("points", np.float32).reshape(-1, 3)
        true = self._mapped("true_points", np.float32).reshape(-1, 3)
        inner = self._mapped("inner", bool)
        if not len(predicted):
            return None
        own = median_frame(predicted)
        if not own[1] > 0:
            raise InputError.of(
                "predicted points", "one point", "have no scale", "check the checkpoint"
            )
        placed = placed_by_medians(predicted[inner], own, median_frame(true))
        errors = reconstruction_errors(
            transform_points(first, placed), transform_points(first, true[inner].astype(np.float64))
        )
        return {
            "accuracy": errors.accuracy.mean,
            "accuracy_median": errors.accuracy.median,
            "completion": errors.completion.mean,
            "completion_median": errors.completion.median,
            "chamfer": errors.chamfer,
            "normal_consistency": errors.normal_consistency,
        }

    def notes(self) -> list[str]:
        """What was left out of scores, or makes one say little."""
        notes = []
        if self._unbounded:
            notes.append(
                f"{self._unbounded} values of true depth are infinite or NaN: not known, not scored"
            )
        return notes

    def close(self) -> None:
        """Removes the scratch folder."""
        for file in self._files.values():
            file.close()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _mapped(self, name: str, dtype: Any) -> np.ndarray:
        self._files[name].flush()
        path = self._scratch / name
        if path.stat().st_size == 0:
            return np.empty(0, dtype)
        return np.memmap(path, dtype, "r")


def _middle(side: int) -> slice:
    """The inner pixels of a side."""
    start = max(0, (side - RECONSTRUCTION_CROP) // 2)
    return slice(start, min(side, start + RECONSTRUCTION_CROP))
