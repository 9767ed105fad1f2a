"""From files and seeds to batches of posed views.

`SOURCES` maps `DataConfig.source` to a function that opens it; `make_loader` batches it.
"""

from collections.abc import Callable

from tttlrm_jax.config import DataConfig
from tttlrm_jax.data.captures import (
    Capture,
    CaptureScene,
    fitted_size,
    load_views,
    read_capture,
)
from tttlrm_jax.data.pipeline import draw_item, make_loader
from tttlrm_jax.data.scenes import Scene, SceneSource, SceneViews
from tttlrm_jax.data.synthetic import render_object, scene_seed
from tttlrm_jax.data.synthetic_cache import SyntheticScenes, build_cache


def _open_synthetic(config: DataConfig) -> SceneSource:
    build_cache(config.synthetic, config.cache_directory, config.render_workers)
    return SyntheticScenes(config.synthetic, config.cache_directory, config.background)


def _open_captures(config: DataConfig) -> SceneSource:
    return tuple(
        CaptureScene(
            read_capture(directory), config.image_size, config.capture_resize, config.background
        )
        for directory in config.capture_directories
    )


SOURCES: dict[str, Callable[[DataConfig], SceneSource]] = {
    "synthetic": _open_synthetic,
    "captures": _open_captures,
}


def open_source(config: DataConfig) -> SceneSource:
    """Opens the scenes a configuration names, rendering what its cache lacks."""
    return SOURCES[config.source](config)


__all__ = [
    "SOURCES",
    "Capture",
    "Scene",
    "SceneSource",
    "SceneViews",
    "SyntheticScenes",
    "build_cache",
    "draw_item",
    "fitted_size",
    "load_views",
    "make_loader",
    "open_source",
    "read_capture",
    "render_object",
    "scene_seed",
]
