"""A tiny model and batch for the mesh tests: 8 input views, 3 targets, 4 scenes, odd sizes."""

import dataclasses
import functools

import jax
import numpy as np

from tttlrm_jax.config import (
    DataConfig,
    LossConfig,
    MeshConfig,
    ModelConfig,
    OptimizerConfig,
    RasterConfig,
    RunConfig,
    SyntheticConfig,
    TrainConfig,
)
from tttlrm_jax.data import make_loader
from tttlrm_jax.models import build_model, split_model
from tttlrm_jax.training.objective import StaticParts

SCENES, INPUTS, TARGETS = 4, 8, 3
PLANS = {"full": 1, "sequential": 8, "causal": 8}  # views per chunk


def run_config(directory, plan: str = "full", *, backend: str = "reference", **changes):
    """A run on the tiny scenes; causal and sequential ones take all views as one chunk."""
    synthetic = SyntheticConfig(num_scenes=4, num_views=12, height=12, width=16, supersampling=1)
    config = RunConfig(
        name="mesh",
        model=ModelConfig(
            d_model=16, num_layers=2, patch_size=4, attention_head_dim=8, num_ttt_heads=2,
            ttt_inner_factor=2.0, mlp_factor=2.0, sh_degree=1, newton_schulz_dtype="float32",
            max_distance=2.5, log_scale_offset=-2.5, log_scale_max=-1.5,
        ),
        raster=RasterConfig(near=0.1, backend=backend),
        data=DataConfig(
            synthetic=synthetic, num_input_views=INPUTS, num_target_views=TARGETS,
            cache_directory=str(directory), render_workers=1, num_threads=0,
        ),
        loss=LossConfig(opacity=0.02, depth=0.1, mask=0.2, depth_alignment="metric"),
        optimizer=OptimizerConfig(peak_lr=1e-3, warmup_steps=0, guard_from_step=0),
        train=TrainConfig(
            num_steps=100, batch_size=SCENES, plan=plan, chunk_views=PLANS[plan],
            accumulate="chunk",
        ),
        mesh=MeshConfig(),
    )  # fmt: skip
    return dataclasses.replace(config, **changes)


@functools.cache
def arrays_of(directory: str) -> dict[str, np.ndarray]:
    """One batch as the loader gives it."""
    config = run_config(directory)
    return next(make_loader(config.data, 0, SCENES))


@functools.cache
def parts_of(config: RunConfig):
    """(static parts, parameters): large enough inner rates that the fast weights matter."""
    graph, params = split_model(build_model(config.model, seed=1))
    return StaticParts(graph, config), params


def assert_close(ours, theirs, tolerance: float, what: str = "") -> None:
    """Every leaf within `tolerance` of the largest value of its array, or of 1 where smaller."""
    ours, theirs = (jax.tree_util.tree_flatten_with_path(tree)[0] for tree in (ours, theirs))
    assert len(ours) == len(theirs)
    for (path, a), (_, b) in zip(ours, theirs, strict=True):
        a, b = np.asarray(a), np.asarray(b)
        scale = max(np.abs(b).max(initial=0), 1e-6)
        error = np.abs(a - b).max(initial=0) / scale
        assert error <= tolerance, f"{what}{jax.tree_util.keystr(path)}: {error:.2e} of {scale:.2e}"
