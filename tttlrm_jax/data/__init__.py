"""From files and seeds to batches of posed views.

`SOURCES` maps `DataConfig.source` to a function that opens it; `make_loader` batches it
for training, `evaluation_loader` what training never sees.
"""

from tttlrm_jax.data.captures import Capture, CaptureScene, load_views, read_capture
from tttlrm_jax.data.pipeline import draw_item, evaluation_loader, make_loader
from tttlrm_jax.data.scenes import Scene, SceneSource, SceneViews
from tttlrm_jax.data.sources import SOURCES, open_source
from tttlrm_jax.data.synthetic import render_object, scene_seed
from tttlrm_jax.data.synthetic_cache import SyntheticScenes, build_cache

__all__ = [
    "SOURCES",
    "Capture",
    "CaptureScene",
    "Scene",
    "SceneSource",
    "SceneViews",
    "SyntheticScenes",
    "build_cache",
    "draw_item",
    "evaluation_loader",
    "load_views",
    "make_loader",
    "open_source",
    "read_capture",
    "render_object",
    "scene_seed",
]
