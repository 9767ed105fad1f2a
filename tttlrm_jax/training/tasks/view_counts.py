"""Steps with fewer input views than the loader gives: models learn to take any number."""

from typing import Any

import numpy as np

from tttlrm_jax.config import RunConfig
from tttlrm_jax.core.geometry.poses import normalise_poses
from tttlrm_jax.datasets.pipeline import virtual_places

_OWN = 1  # keeps draws apart from others of the same seed and step


def view_count_at(config: RunConfig, step: int) -> int:
    """Input views of a step: drawn from `train.view_counts`, or all without them.

    It depends on the seed and the number of the step alone.
    """
    counts = config.train.view_counts
    if not counts:
        return config.data.num_input_views
    return int(np.random.default_rng((config.train.seed, step, _OWN)).choice(counts))


def with_fewer_inputs(
    arrays: dict[str, np.ndarray], count: int, config: RunConfig, step: int
) -> dict[str, np.ndarray]:
    """A batch with `count` of its input views, the same places in all scenes, in their order.

    Frame and scale of every scene come from the views that are left, as where only they had been
    drawn; depth follows.
    """
    num_views = arrays["input_image"].shape[1]
    if count == num_views:
        return arrays
    rng = np.random.default_rng((config.train.seed, step, _OWN, count))
    places = np.sort(rng.choice(num_views, count, replace=False))
    fewer = {
        name: array[:, places] if name.startswith("input_") else array
        for name, array in arrays.items()
    }
    scenes = [_normalised(fewer, scene, config) for scene in range(len(fewer["input_image"]))]
    return fewer | {name: np.stack([scene[name] for scene in scenes]) for name in scenes[0]}


def _normalised(arrays: dict[str, np.ndarray], scene: int, config: RunConfig) -> dict[str, Any]:
    """What the frame and scale of one scene change."""
    inputs = arrays["input_world_from_camera"][scene]
    poses = np.concatenate([inputs, arrays["target_world_from_camera"][scene]])
    reference = poses if config.data.normalise_over == "all" else inputs
    poses, similarity = normalise_poses(poses, config.data.pose_normalisation, reference)
    poses, scale = poses.astype(np.float32), np.float32(similarity.scale)
    changed: dict[str, Any] = {
        "input_world_from_camera": poses[: len(inputs)],
        "target_world_from_camera": poses[len(inputs) :],
    }
    for name in ("input_depth", "target_depth", "scene_scale"):
        if name in arrays:
            changed[name] = arrays[name][scene] * scale
    if "virtual_index" in arrays:
        changed["virtual_index"] = virtual_places(changed["input_world_from_camera"], config.data)
    return changed
