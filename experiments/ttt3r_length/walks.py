"""Batches of equally long walks with true depth and poses: procedural rooms, a real sequence."""

import dataclasses

import numpy as np

from tttlrm_jax.config.data import WalkConfig
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.geometry.alignment import transform_points
from tttlrm_jax.core.geometry.pointmaps import unproject
from tttlrm_jax.core.geometry.poses import rigid_inverse
from tttlrm_jax.procedural.walks import render_walk, strided
from tttlrm_jax.sequences.frame_images import check_patches, plan_fit
from tttlrm_jax.sequences.readers import open_sequence
from tttlrm_jax.sequences.sequence import FrameSelection
from tttlrm_jax.training.tasks.rooms import HELD_OUT

FIRST_SCENE = HELD_OUT + 1000  # beyond the rooms that training looks at while it goes on


@dataclasses.dataclass(frozen=True, kw_only=True)
class Walks:
    """Walks side by side."""

    images: np.ndarray  # uint8 [frame, scene, height, width, 3]
    depth: np.ndarray  # float32 [frame, scene, height, width] z in metres, 0 where not known
    world_from_camera: np.ndarray  # float64 [frame, scene, 4, 4]
    intrinsics: np.ndarray  # float64 [scene, 4]

    @property
    def first_from_camera(self) -> np.ndarray:
        """Poses [frame, scene, 4, 4] in the first camera's frame."""
        return rigid_inverse(self.world_from_camera[:1]) @ self.world_from_camera

    def points_of(self, scene: int) -> np.ndarray:
        """Points float32 [frame, height, width, 3] of one scene in its first camera's frame."""
        own = unproject(self.depth[:, scene], self.intrinsics[scene])
        poses = self.first_from_camera[:, scene]
        flat = transform_points(poses, own.reshape(len(own), -1, 3))
        return flat.reshape(own.shape).astype(np.float32)


def room_walks(num_scenes: int, num_frames: int, room: WalkConfig, stride: float) -> Walks:
    """Walks through rooms that no training run has seen, `stride` times as fast as `room` says."""
    walks = [
        render_walk(FIRST_SCENE + scene, num_frames, strided(room, stride))
        for scene in range(num_scenes)
    ]
    images, depth, poses = (
        np.stack([getattr(walk, name) for walk in walks], axis=1)
        for name in ("images", "depth", "world_from_camera")
    )
    return Walks(
        images=images, depth=depth, world_from_camera=poses,
        intrinsics=np.stack([walk.intrinsics for walk in walks]),
    )  # fmt: skip


def capture_walks(capture: str, num_scenes: int, num_frames: int, size: int) -> Walks:
    """Windows of a sequence on disk whose starts are spread evenly over it; they may overlap.

    Pictures are fitted as `eval.py --model ttt3r --size` does. Raises InputError for a sequence
    that is too short or lacks depth, poses or intrinsics.
    """
    sequence = open_sequence(capture, FrameSelection())
    fit = check_patches(plan_fit(*sequence.image_size, size))
    frames = list(sequence.frames())
    if len(frames) < num_frames:
        raise InputError.of(
            "capture", capture, f"has {len(frames)} frames, fewer than {num_frames}",
            "give shorter --lengths",
        )  # fmt: skip
    if sequence.intrinsics is None:
        raise InputError.of("capture", capture, "says no intrinsics", "give an RGB-D sequence")
    images, depth, poses = [], [], []
    for frame in frames:
        if frame.depth is None or frame.world_from_camera is None:
            raise InputError.of(
                f"frame {frame.name}", "it", "has no depth or no pose", "give an RGB-D sequence"
            )
        images.append(fit.image(frame.image))
        depth.append(fit.nearest(frame.depth))
        poses.append(frame.world_from_camera)
    starts = np.linspace(0, len(frames) - num_frames, num_scenes).round().astype(int)
    chosen = starts[None] + np.arange(num_frames)[:, None]
    lens = fit.intrinsics(sequence.intrinsics)
    return Walks(
        images=np.stack(images)[chosen], depth=np.stack(depth)[chosen].astype(np.float32),
        world_from_camera=np.stack(poses)[chosen], intrinsics=np.tile(lens, (num_scenes, 1)),
    )  # fmt: skip
