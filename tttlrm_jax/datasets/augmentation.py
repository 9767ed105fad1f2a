"""Changes of training items that leave geometry exact: mirrored scenes, reversed walks, cut-outs,
backgrounds.

Nothing is drawn from the generator while an option is off, so items stay as they were without it.
Every draw comes from the generator of the item, hence from the run's seed and the item's number.
"""

import dataclasses

import numpy as np
from PIL import Image

from tttlrm_jax.config import DataConfig
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.scenes import SceneViews

MIRROR = np.diag([-1.0, 1.0, 1.0, 1.0])


def chance(rng: np.random.Generator, probability: float) -> bool:
    """True with a probability."""
    return probability > 0 and rng.random() < probability


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


def random_cut_out(views: SceneViews, rng: np.random.Generator, config: DataConfig) -> SceneViews:
    """A piece of every view, at the batch's size.

    All views of an item show the same share of their sides, uniform in [min_crop, 1], each at a
    place of its own.
    """
    count, high, wide = views.image.shape[:3]
    share = rng.uniform(config.min_crop, 1.0)
    place = rng.uniform(0.0, 1.0 - share, (count, 2))
    boxes = np.concatenate([place, place + share], axis=1) * [wide, high, wide, high]
    return cut_out(views, boxes, config.image_size)


def cut_out(views: SceneViews, boxes: np.ndarray, size: tuple[int, int]) -> SceneViews:
    """Boxes [view, 4] (left, top, right, bottom in pixels, not rounded) resized to (height, width).

    Lanczos for pictures and masks; depth is that of the nearest pixel. Intrinsics follow exactly.
    """
    left_top, extent = boxes[:, :2], boxes[:, 2:] - boxes[:, :2]
    scale = np.array(size[::-1]) / extent
    moved = views.intrinsics - np.concatenate([np.zeros_like(left_top), left_top], axis=1)
    image, intrinsics = _resampled(views.image, boxes, size), moved * np.tile(scale, (1, 2))
    mask, depth = views.mask, views.depth
    if mask is not None:
        mask = _resampled(mask[..., None], boxes, size)[..., 0]
    if depth is not None:
        depth = np.stack([_nearest(z, box, size) for z, box in zip(depth, boxes, strict=True)])
    return dataclasses.replace(views, image=image, intrinsics=intrinsics, mask=mask, depth=depth)


def _resampled(images: np.ndarray, boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Boxes of float32 [view, height, width, channel] in [0, 1], at another size."""
    out = np.empty((len(images), *size, images.shape[-1]), np.float32)
    for view, box in enumerate(boxes.tolist()):
        for channel in range(images.shape[-1]):
            plane = Image.fromarray(np.ascontiguousarray(images[view, ..., channel]))
            resized = plane.resize((size[1], size[0]), Image.Resampling.LANCZOS, tuple(box))
            out[view, ..., channel] = np.asarray(resized)
    return np.clip(out, 0.0, 1.0)


def _nearest(values: np.ndarray, box: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Values [height, width] at the pixel centres of the resized box; nothing is mixed."""
    left, top, right, bottom = box
    row = top + (np.arange(size[0]) + 0.5) * (bottom - top) / size[0]
    column = left + (np.arange(size[1]) + 0.5) * (right - left) / size[1]
    return values[row.astype(np.int64)[:, None], column.astype(np.int64)]


def maybe_recoloured(
    views: SceneViews, rng: np.random.Generator, config: DataConfig
) -> tuple[SceneViews, np.ndarray]:
    """Views on a background of the item's own, and its RGB float32 [3].

    With probability `config.random_background` a colour uniform in [0, 1]^3, else
    `config.background`. Raises InputError where the source knows no coverage.
    """
    usual = np.asarray(config.background, np.float32)
    if views.mask is None:
        raise InputError.of(
            "data.random_background", config.random_background,
            "needs to know what pixels are transparent, and some image of the source is opaque",
            "set it to 0 or use pictures with alpha",
        )  # fmt: skip
    if rng.random() >= config.random_background:
        return views, usual
    colour = rng.random(3, np.float32)
    free = np.float32(1) - views.mask[..., None]
    image = np.clip(views.image + free * (colour - usual), 0.0, 1.0)
    return dataclasses.replace(views, image=image), colour
