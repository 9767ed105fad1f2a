"""Batches of procedural rooms: each follows from the seed of the run and the number of the step."""

import numpy as np

from tttlrm_jax.config.data import WalkConfig
from tttlrm_jax.config.training import SequenceTrainConfig
from tttlrm_jax.core.geometry.pointmaps import unproject
from tttlrm_jax.core.geometry.poses import encoding_from_matrix
from tttlrm_jax.procedural.walks import RenderedWalk, render_walk, strided
from tttlrm_jax.training.tasks.task import Arrays, Batches

HELD_OUT = 2**31  # room seeds from here on are never trained on


class RoomBatches(Batches):
    """Rooms that no other step sees, of a drawn number of frames; there is no state to save.

    `share` says which of the parts of every batch, and of how many, this process draws.
    """

    def __init__(self, room: WalkConfig, settings: SequenceTrainConfig, share: tuple[int, int]):
        self._room, self._settings, self._share = room, settings, share

    def take(self, step: int) -> Arrays:
        settings = self._settings
        rng = np.random.default_rng([settings.seed, step])
        num_frames = int(rng.choice(settings.frame_counts))
        seeds = rng.integers(0, HELD_OUT, settings.batch_size).tolist()
        strides = rng.choice(settings.strides, settings.batch_size).tolist()
        index, count = self._share
        size = settings.batch_size // count
        own = slice(index * size, (index + 1) * size)
        return room_batch(self._room, seeds[own], num_frames, strides[own])


def held_out_rooms(room: WalkConfig, settings: SequenceTrainConfig) -> Arrays:
    """Rooms that are never trained on, strides in turn."""
    scenes = range(settings.eval_scenes)
    strides = [settings.strides[scene % len(settings.strides)] for scene in scenes]
    seeds = [HELD_OUT + scene for scene in scenes]
    return room_batch(room, seeds, max(settings.frame_counts), strides)


def room_batch(room: WalkConfig, seeds: list[int], num_frames: int, strides: list[int]) -> Arrays:
    """`images` in [0, 1] of the rooms with these seeds, and what is true of them, by the names of
    `FrameTruth`; all `[frame, batch, ...]`.

    `strides` says for each room how many frames of its walk lie from one frame to the next. The
    world is the first camera of each sequence; lengths are metres.
    """
    walks = [
        render_walk(seed, num_frames, strided(room, stride))
        for seed, stride in zip(seeds, strides, strict=True)
    ]
    scenes = [_truth_of(walk) for walk in walks]
    arrays = {
        name: np.stack([scene[name] for scene in scenes], axis=1).astype(np.float32)
        for name in scenes[0]
    }
    images = np.stack([walk.images for walk in walks], axis=1).astype(np.float32) / 255
    valid = np.asarray(np.isfinite(arrays["points_self"]).all(axis=-1))
    return {"images": images, **arrays, "valid": valid}


def _truth_of(walk: RenderedWalk) -> dict[str, np.ndarray]:
    """Points and poses of one walk, `[frame, ...]`."""
    relative = np.linalg.inv(walk.world_from_camera[0]) @ walk.world_from_camera
    own = unproject(walk.depth, walk.intrinsics)
    turned = np.einsum("fij,fhwj->fhwi", relative[:, :3, :3], own)
    world = turned + relative[:, None, None, :3, 3]
    return {
        "points_self": own, "points_world": world, "camera_pose": encoding_from_matrix(relative),
    }  # fmt: skip
