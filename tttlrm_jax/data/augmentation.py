"""Cheap changes of training items that leave geometry exact: mirrored scenes, reversed walks.

Nothing is drawn from the generator while an option is off, so items stay as they were without it.
"""

import dataclasses

import numpy as np

from tttlrm_jax.config import DataConfig
from tttlrm_jax.data.scenes import SceneViews

MIRROR = np.diag([-1.0, 1.0, 1.0, 1.0])


def maybe_reversed(inputs: np.ndarray, rng: np.random.Generator, config: DataConfig) -> np.ndarray:
    """Input views in the opposite order with probability `config.reverse_probability`."""
    if config.reverse_probability and rng.random() < config.reverse_probability:
        return inputs[::-1]
    return inputs


def maybe_mirrored(
    views: SceneViews, poses: np.ndarray, rng: np.random.Generator, config: DataConfig
) -> tuple[SceneViews, np.ndarray]:
    """Views and poses of the mirrored scene with probability `config.mirror_probability`."""
    if config.mirror_probability and rng.random() < config.mirror_probability:
        return mirrored(views, poses)
    return views, poses


def mirrored(views: SceneViews, poses: np.ndarray) -> tuple[SceneViews, np.ndarray]:
    """What the cameras see in a mirror at x = 0: pictures, depth and poses [view, 4, 4]."""
    intrinsics = views.intrinsics.copy()
    intrinsics[:, 2] = views.image.shape[2] - intrinsics[:, 2]

    def flip(array: np.ndarray | None) -> np.ndarray | None:
        return None if array is None else np.ascontiguousarray(array[:, :, ::-1])

    image = np.ascontiguousarray(views.image[:, :, ::-1])
    flipped = dataclasses.replace(
        views, image=image, intrinsics=intrinsics, mask=flip(views.mask), depth=flip(views.depth)
    )
    return flipped, MIRROR @ poses @ MIRROR
