"""The table of scene sources and how a configuration opens one."""

import dataclasses
from collections.abc import Callable
from typing import Literal

from tttlrm_jax.config import DataConfig
from tttlrm_jax.data.captures import CaptureScene, read_capture
from tttlrm_jax.data.scenes import SceneSource
from tttlrm_jax.data.synthetic_cache import SyntheticScenes, build_cache

Split = Literal["train", "eval"]


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
    del split
    captures = [read_capture(directory) for directory in config.capture_directories]
    use_mask = all(capture.has_alpha() for capture in captures)
    return tuple(
        CaptureScene(
            capture, config.image_size, config.capture_resize, config.background, use_mask,
            config.holdout_every,
        )
        for capture in captures
    )  # fmt: skip


SOURCES: dict[str, Callable[[DataConfig, Split], SceneSource]] = {
    "synthetic": _open_synthetic,
    "captures": _open_captures,
}


def open_source(config: DataConfig, split: Split = "train") -> SceneSource:
    """Opens the scenes a configuration names, rendering what its cache lacks."""
    return SOURCES[config.source](config, split)
