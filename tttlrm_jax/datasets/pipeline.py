"""Batches of posed views through grain: seeded, threaded, resumable to the bit.

An item is one scene: input views, target views, both in a frame normalised on the inputs (or on
all drawn views), drawn with a generator that depends on nothing but the loader's seed and the
item's running number. The iterator's `get_state()` is JSON-like, small, and continues exactly.

What training never sees is another set of scenes (synthetic) or some views of every scene
(captures, `Scene.held_out`).
"""

import dataclasses

import grain
import numpy as np

from tttlrm_jax.captures.view_selection import frame_window, select_kmeans, select_virtual
from tttlrm_jax.config import DataConfig
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.geometry.poses import normalise_poses
from tttlrm_jax.core.scenes import Scene, SceneSource, SceneViews, Split
from tttlrm_jax.datasets.augmentation import chance, maybe_recoloured, mirrored, random_cut_out
from tttlrm_jax.datasets.scene_lengths import offer_of, usable_scenes, views_needed
from tttlrm_jax.datasets.sources import open_source


def make_loader(
    config: DataConfig,
    seed: int,
    batch_size: int,
    *,
    source: SceneSource | None = None,
    split: Split = "train",
    shuffle: bool = True,
    num_epochs: int | None = None,
    drop_remainder: bool = True,
    shard_index: int = 0,
    shard_count: int = 1,
) -> grain.DatasetIterator:
    """Iterator over batches (see `draw_item` for the keys, here with a leading batch axis).

    `source` defaults to the scenes that the configuration names for `split`; those with too few
    frames are left out (`usable_scenes`), and the others numbered anew. Where scenes have
    held-out views, `train` never draws them, and `eval` draws targets from them and inputs from
    the others: `data.num_target_views` targets or, in every item, as many as the scene with the
    fewest offers. `num_epochs=None` repeats for ever, also for batches larger than the source.
    Process `shard_index` of `shard_count` gets every shard_count-th item.
    """
    if source is None:
        source = open_source(config, split)
    source = usable_scenes(source, config, split)
    if split == "eval":
        config = _with_available_targets(config, source)
    _check_counts(len(source), batch_size, num_epochs, shard_index, shard_count, drop_remainder)
    dataset = grain.MapDataset.range(len(source)).seed(seed)
    if shuffle:
        dataset = dataset.shuffle()
    dataset = dataset.repeat(num_epochs)
    dataset = dataset.random_map(
        lambda index, rng: draw_item(source[index], rng, config, index, split)
    )
    dataset = dataset[shard_index::shard_count].batch(batch_size, drop_remainder=drop_remainder)
    ahead = config.prefetch if config.num_threads else 0
    options = grain.ReadOptions(num_threads=config.num_threads, prefetch_buffer_size=ahead)
    return iter(dataset.to_iter_dataset(options))


def evaluation_loader(
    config: DataConfig, num_scenes: int, batch_size: int = 1
) -> grain.DatasetIterator:
    """Iterator over batches of the first `num_scenes` held-out scenes, each once and in order.

    Captures number as many scenes as there are directories with enough frames, should these be
    fewer. The last batch holds what remains. Views are drawn with a fixed seed: the same batches at
    every call.
    """
    if num_scenes < 1:
        raise InputError.of("num_scenes", num_scenes, "is below 1", "use 1 or more")
    synthetic = dataclasses.replace(config.synthetic, num_scenes=num_scenes)
    config = dataclasses.replace(config, synthetic=synthetic)
    scenes = usable_scenes(open_source(config, "eval"), config, "eval", num_scenes)
    return make_loader(
        config, 0, batch_size, source=scenes, split="eval", shuffle=False, num_epochs=1,
        drop_remainder=False,
    )  # fmt: skip


def draw_item(
    scene: Scene,
    rng: np.random.Generator,
    config: DataConfig,
    scene_index: int = 0,
    split: Split = "train",
) -> dict[str, np.ndarray]:
    """One item of training or, for `eval`, with held-out views as targets.

    For both `input_` and `target_` (v views of h x w pixels): `image` float32 [v, h, w, 3] in
    [0, 1], `mask` float32 [v, h, w] coverage, `depth` float32 [v, h, w] z depth in normalised
    units (0 where rays miss), `world_from_camera` float32 [v, 4, 4] normalised,
    `intrinsics` float32 [v, 4]. Further `scene_scale` (normalised units per scene unit),
    `scene_index`. Sources that know no mask or depth leave these keys out. Training with
    `data.random_background` adds `background` float32 [3], RGB in [0, 1], `data.num_virtual_views`
    `virtual_index` int32 [virtual], places among the inputs.
    """
    training = split == "train"
    inputs, targets = draw_views(scene.world_from_camera, rng, config, scene.held_out, split)
    if training and chance(rng, config.reverse_probability):
        inputs = inputs[::-1]
    chosen = np.concatenate([inputs, targets])
    poses, views = scene.world_from_camera[chosen], scene.read(chosen)
    if training and chance(rng, config.mirror_probability):
        views, poses = mirrored(views, poses)
    if training and config.min_crop < 1:
        views = random_cut_out(views, rng, config)
    background = None
    if training and config.random_background:
        views, background = maybe_recoloured(views, rng, config)
    reference = poses if config.normalise_over == "all" else poses[: len(inputs)]
    poses, similarity = normalise_poses(poses, config.pose_normalisation, reference)
    item = _half("input", views, poses, similarity.scale, slice(0, len(inputs)))
    item |= _half("target", views, poses, similarity.scale, slice(len(inputs), None))
    item["scene_scale"] = np.float32(similarity.scale)
    item["scene_index"] = np.int32(scene_index)
    if config.num_virtual_views is not None:
        item["virtual_index"] = virtual_places(item["input_world_from_camera"], config)
    if background is not None:
        item["background"] = background
    return item


def draw_views(
    world_from_camera: np.ndarray,
    rng: np.random.Generator,
    config: DataConfig,
    held_out: np.ndarray | None = None,
    split: Split = "train",
) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the input views (ascending for `kmeans` and `range`) and of the target views.

    Both are drawn from the same `data.num_pool_views` frames, where that is set (targets of `eval`
    are not: they come from the held-out frames). Views marked in `held_out` [view] are never
    inputs, and targets of `eval` only, which then has no others.
    """
    num_frames, num_inputs = len(world_from_camera), config.num_input_views
    num_targets = config.num_target_views
    pool = reserved = np.arange(num_frames)
    if config.view_selection == "range":
        pool = frame_window(rng, num_frames, config.min_frame_range, config.max_frame_range)
    if held_out is not None:
        pool, reserved = pool[~held_out[pool]], pool[held_out[pool]]
    apart = held_out is not None and split == "eval"  # targets come from `reserved`
    field, needed = views_needed(config, apart)
    if apart and config.num_target_views > len(reserved):
        raise InputError.of(
            "data.num_target_views", config.num_target_views,
            f"exceeds the {len(reserved)} held-out frames of a scene", "draw fewer targets",
        )  # fmt: skip
    if needed > len(pool):
        raise InputError.of(
            field, needed, f"exceeds the {len(pool)} frames of a scene that are not held out",
            "draw fewer views",
        )  # fmt: skip
    if config.num_pool_views is not None:
        pool = np.sort(rng.permutation(pool)[: config.num_pool_views])
    if config.view_selection == "kmeans":
        inputs = pool[np.unique(select_kmeans(world_from_camera[pool], num_inputs))]
        spare = rng.permutation(np.setdiff1d(pool, inputs))
        inputs = np.sort(np.concatenate([inputs, spare[: num_inputs - len(inputs)]]))
    else:
        inputs = rng.permutation(pool)[:num_inputs]
        inputs = np.sort(inputs) if config.view_selection == "range" else inputs
    if apart:
        pool = reserved
    elif not config.targets_include_inputs:
        pool = np.setdiff1d(pool, inputs)
    return inputs, rng.permutation(pool)[:num_targets]


def virtual_places(input_poses: np.ndarray, config: DataConfig) -> np.ndarray:
    """Places int32 [virtual] of the inputs that carry the Gaussians, by their normalised float32
    poses [input, 4, 4]: as published, or all in order where there are no more."""
    count = config.num_virtual_views
    assert count is not None
    if count >= len(input_poses):
        return np.arange(len(input_poses), dtype=np.int32)
    return select_virtual(input_poses, count).astype(np.int32)


def _half(prefix: str, views: SceneViews, poses: np.ndarray, scale: float, part: slice):
    half = {
        f"{prefix}_image": views.image[part],
        f"{prefix}_world_from_camera": poses[part].astype(np.float32),
        f"{prefix}_intrinsics": views.intrinsics[part].astype(np.float32),
    }
    if views.mask is not None:
        half[f"{prefix}_mask"] = views.mask[part]
    if views.depth is not None:
        half[f"{prefix}_depth"] = views.depth[part] * np.float32(scale)
    return half


def _with_available_targets(config: DataConfig, source: SceneSource) -> DataConfig:
    """The configuration with no more targets than every draw from every scene has held out."""
    if source[0].held_out is None:
        return config
    offers = [offer_of(source[index], config) for index in range(len(source))]
    fewest = min(offer.held_out or 0 for offer in offers)
    return dataclasses.replace(config, num_target_views=min(config.num_target_views, fewest))


def _check_counts(
    num_scenes, batch_size, num_epochs, shard_index, shard_count, drop_remainder
) -> None:
    if not 0 <= shard_index < shard_count:
        raise InputError.of(
            "shard_index", shard_index, f"is not in 0..{shard_count - 1}", "use the process number"
        )
    if batch_size < 1:
        raise InputError.of("batch_size", batch_size, "is below 1", "use 1 or more")
    if num_epochs is None or not drop_remainder:
        return
    available = num_scenes * num_epochs // shard_count
    if batch_size > available:
        raise InputError.of(
            "batch_size", batch_size, f"exceeds the {available} items of one process",
            "use a smaller batch, more scenes or drop_remainder=False",
        )  # fmt: skip
