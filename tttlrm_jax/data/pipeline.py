"""Batches of posed views through grain: seeded, threaded, resumable to the bit.

An item is one scene: input views, target views, both in a frame normalised on the inputs (or on
all drawn views), drawn with a generator that depends on nothing but the loader's seed and the
item's running number. The iterator's `get_state()` is JSON-like, small, and continues exactly.
"""

import grain
import numpy as np

from tttlrm_jax.config import DataConfig
from tttlrm_jax.data.scenes import Scene, SceneSource, SceneViews
from tttlrm_jax.data.view_selection import frame_window, select_kmeans
from tttlrm_jax.errors import InputError
from tttlrm_jax.geometry.poses import normalise_poses


def make_loader(
    config: DataConfig,
    seed: int,
    batch_size: int,
    *,
    source: SceneSource | None = None,
    shuffle: bool = True,
    num_epochs: int | None = None,
    drop_remainder: bool = True,
    shard_index: int = 0,
    shard_count: int = 1,
) -> grain.DatasetIterator:
    """Iterator over batches (see `draw_item` for the keys, here with a leading batch axis).

    `source` defaults to what the configuration names. `num_epochs=None` repeats for ever;
    `shuffle=False, num_epochs=1, drop_remainder=False` visits every scene once, for evaluation.
    Process `shard_index` of `shard_count` gets every shard_count-th item.
    """
    if source is None:
        from tttlrm_jax.data import open_source

        source = open_source(config)
    _check_counts(len(source), batch_size, num_epochs, shard_index, shard_count, drop_remainder)
    dataset = grain.MapDataset.range(len(source)).seed(seed)
    if shuffle:
        dataset = dataset.shuffle()
    dataset = dataset.repeat(num_epochs)
    dataset = dataset.random_map(lambda index, rng: draw_item(source[index], rng, config, index))
    dataset = dataset[shard_index::shard_count].batch(batch_size, drop_remainder=drop_remainder)
    options = grain.ReadOptions(
        num_threads=config.num_threads,
        prefetch_buffer_size=config.prefetch if config.num_threads else 0,
    )
    return iter(dataset.to_iter_dataset(options))


def draw_item(
    scene: Scene, rng: np.random.Generator, config: DataConfig, scene_index: int = 0
) -> dict[str, np.ndarray]:
    """One training item.

    For both `input_` and `target_` (v views of h x w pixels): `image` float32 [v, h, w, 3] in
    [0, 1], `mask` float32 [v, h, w] coverage, `depth` float32 [v, h, w] z depth in normalised
    units (0 where unknown), `world_from_camera` float32 [v, 4, 4] normalised,
    `intrinsics` float32 [v, 4]. Further `scene_scale` (normalised units per scene unit),
    `scene_index`.
    """
    inputs, targets = draw_views(scene.world_from_camera, rng, config)
    chosen = np.concatenate([inputs, targets])
    poses = scene.world_from_camera[chosen]
    reference = poses if config.normalise_over == "all" else poses[: len(inputs)]
    poses, similarity = normalise_poses(poses, config.pose_normalisation, reference)
    views = scene.read(chosen)
    item = _half("input", views, poses, similarity.scale, slice(0, len(inputs)))
    item |= _half("target", views, poses, similarity.scale, slice(len(inputs), None))
    item["scene_scale"] = np.float32(similarity.scale)
    item["scene_index"] = np.int32(scene_index)
    return item


def draw_views(
    world_from_camera: np.ndarray, rng: np.random.Generator, config: DataConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the input views (ascending for `kmeans` and `range`) and of the target views."""
    num_frames, num_inputs = len(world_from_camera), config.num_input_views
    pool = np.arange(num_frames)
    if config.view_selection == "range":
        pool = frame_window(rng, num_frames, config.min_frame_range, config.max_frame_range)
    num_targets = config.num_target_views
    needed = max(num_inputs, num_targets)
    if not config.targets_include_inputs:
        needed = num_inputs + num_targets
    if needed > len(pool):
        raise InputError.of(
            "data.num_input_views + data.num_target_views", needed,
            f"exceeds the {len(pool)} frames of a scene", "draw fewer views",
        )  # fmt: skip
    if config.view_selection == "kmeans":
        inputs = np.unique(select_kmeans(world_from_camera, num_inputs))
        spare = rng.permutation(np.setdiff1d(pool, inputs))
        inputs = np.sort(np.concatenate([inputs, spare[: num_inputs - len(inputs)]]))
    else:
        inputs = rng.permutation(pool)[:num_inputs]
        inputs = np.sort(inputs) if config.view_selection == "range" else inputs
    if not config.targets_include_inputs:
        pool = np.setdiff1d(pool, inputs)
    return inputs, rng.permutation(pool)[:num_targets]


def _half(prefix: str, views: SceneViews, poses: np.ndarray, scale: float, part: slice):
    return {
        f"{prefix}_image": views.image[part],
        f"{prefix}_mask": views.mask[part],
        f"{prefix}_depth": views.depth[part] * np.float32(scale),
        f"{prefix}_world_from_camera": poses[part].astype(np.float32),
        f"{prefix}_intrinsics": views.intrinsics[part].astype(np.float32),
    }


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
