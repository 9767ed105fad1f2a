"""The table of scene sources and how a configuration opens one."""

import dataclasses
import sys
from collections.abc import Callable

from tttlrm_jax.captures.capture import CaptureScene, read_capture
from tttlrm_jax.config import DataConfig
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.scenes import SceneSource, Split
from tttlrm_jax.datasets.synthetic_cache import SyntheticScenes, build_cache


def _open_synthetic(config: DataConfig, split: Split) -> SceneSource:
    """Held-out scene seeds for `eval`; what `synthetic.split` says for `train`."""
    synthetic = config.synthetic
    if split == "eval":
        synthetic = dataclasses.replace(synthetic, split="eval")
    build_cache(synthetic, config.cache_directory, config.render_workers)
    return SyntheticScenes(synthetic, config.cache_directory, config.background)


def _open_captures(config: DataConfig, split: Split) -> SceneSource:
    """The same captures for both splits, which differ in the frames that are drawn.

    Masks are kept where every image of every capture has one: batches cannot mix.
    """
    captures = [read_capture(directory) for directory in config.capture_directories]
    use_mask = all(capture.has_alpha() for capture in captures)
    for capture in captures:
        for note in capture.notes:
            print(f"note: {capture.name}: {note}", file=sys.stderr)
    for capture in captures if config.capture_depth else ():
        if not capture.has_disparity():
            raise InputError(
                f"capture={capture.directory} lacks disparity for some frame while "
                "data.capture_depth=True; run python -m tttlrm_jax.datasets.prepare_depth on it"
            )
    return tuple(
        CaptureScene(
            capture, _size(config, split), config.capture_resize, config.background, use_mask,
            config.holdout_every, config.capture_depth,
        )
        for capture in captures
    )  # fmt: skip


def _open_shards(config: DataConfig, split: Split) -> SceneSource:
    """The scenes of a dataset that `datasets.prepare` wrote."""
    from tttlrm_jax.datasets.shards.reader import ShardScenes  # imports TFDS, which takes a second

    return ShardScenes(
        config.shard_directory, split, _size(config, split), config.capture_resize,
        config.background, config.holdout_every,
    )  # fmt: skip


def _size(config: DataConfig, split: Split) -> tuple[int, int]:
    """Height and width of what is read; training cuts its pictures out of it."""
    return config.reading_size if split == "train" else config.image_size


SOURCES: dict[str, Callable[[DataConfig, Split], SceneSource]] = {
    "synthetic": _open_synthetic,
    "captures": _open_captures,
    "shards": _open_shards,
}


def open_source(config: DataConfig, split: Split = "train") -> SceneSource:
    """Opens the scenes a configuration names, rendering what its cache lacks."""
    return SOURCES[config.source](config, split)
