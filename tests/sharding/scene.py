"""A tiny model and batch for the mesh tests: 4 scenes of 16 input views and 3 targets."""

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
    RuleConfig,
    RunConfig,
    SyntheticConfig,
    TrainConfig,
)
from tttlrm_jax.core.types import Chunk
from tttlrm_jax.datasets.pipeline import make_loader
from tttlrm_jax.models import build_model, init_stream, merge_model, split_model, step
from tttlrm_jax.models.mesh_stream import MeshStream
from tttlrm_jax.parallel.mesh import make_mesh
from tttlrm_jax.training.objectives import objective_of
from tttlrm_jax.training.objectives.batches import Batch, StaticParts

SCENES, INPUTS, TARGETS = 4, 16, 3
CHUNK = 8  # views


def run_config(directory, plan: str = "full", *, backend: str = "reference", **changes):
    """A run on the tiny scenes, in float64 where JAX has it switched on."""
    synthetic = SyntheticConfig(
        num_scenes=SCENES, num_views=INPUTS + TARGETS, height=8, width=12, supersampling=1
    )
    dtype = "float64" if jax.config.jax_enable_x64 else "float32"
    config = RunConfig(
        name="mesh",
        model=ModelConfig(
            d_model=16, num_layers=2, patch_size=4, attention_head_dim=8, num_ttt_heads=2,
            ttt_inner_factor=2.0, mlp_factor=2.0, sh_degree=0, rule=RuleConfig.of("muon", steps=2),
            newton_schulz_dtype=dtype, compute_dtype=dtype, param_dtype=dtype,
            max_distance=2.5, log_scale_offset=-2.5, log_scale_max=-1.5,
        ),
        raster=RasterConfig(near=0.1, backend=backend),
        data=DataConfig(
            synthetic=synthetic, num_input_views=INPUTS, num_target_views=TARGETS,
            cache_directory=str(directory), render_workers=1, num_threads=0,
            random_background=0.5,
        ),
        loss=LossConfig(opacity=0.02, depth=0.1, mask=0.2, depth_alignment="metric"),
        optimizer=OptimizerConfig(peak_lr=1e-3, warmup_steps=0, guard_from_step=100),
        train=TrainConfig(
            num_steps=100, batch_size=SCENES, plan=plan, chunk_views=CHUNK,
            accumulate="append",
        ),
        mesh=MeshConfig(),
    )  # fmt: skip
    return dataclasses.replace(config, **changes)


@functools.cache
def arrays_of(directory: str) -> dict[str, np.ndarray]:
    """One batch as the loader gives it, in the dtype of the run."""
    config = run_config(directory)
    wide = np.dtype(config.model.param_dtype)
    arrays = next(make_loader(config.data, 0, SCENES))
    return {k: v.astype(wide) if v.dtype == np.float32 else v for k, v in arrays.items()}


def repeated(arrays: dict[str, np.ndarray], scenes: int) -> dict[str, np.ndarray]:
    """A batch of so many scenes: these over and over, which changes no mean, or the first ones."""
    return {k: np.concatenate([v] * -(-scenes // SCENES))[:scenes] for k, v in arrays.items()}


@functools.cache
def parts_of(config: RunConfig):
    """(static parts, parameters)."""
    graph, params = split_model(build_model(config.model, seed=1))
    return StaticParts(graph, config), params


def images_alone(params, static: StaticParts, batch: Batch):
    """Targets of a batch on one device, `[batch, view, height, width, 3]`, after all chunks."""
    config = static.config
    key, chunk = jax.random.key(config.train.seed), config.train.chunk_views

    def images(params):
        return objective_of(config).images(params, static, batch, key, chunk).rgb[-1]

    return jax.jit(images)(params)


def assert_close(ours, theirs, tolerance: float, what: str = "") -> None:
    """Every leaf within `tolerance` of the largest value of its array, or of 1 where smaller."""
    ours, theirs = (jax.tree_util.tree_flatten_with_path(tree)[0] for tree in (ours, theirs))
    assert len(ours) == len(theirs)
    for (path, a), (_, b) in zip(ours, theirs, strict=True):
        a, b = np.asarray(a), np.asarray(b)
        scale = max(np.abs(b).max(initial=0), 1e-6)
        error = np.abs(a - b).max(initial=0) / scale
        assert error <= tolerance, f"{what}{jax.tree_util.keystr(path)}: {error:.2e} of {scale:.2e}"


def on_mesh(config, sizes, **mesh_settings):
    """The configuration on a mesh of sizes (data, seq, fsdp), with scenes enough for it."""
    data, seq, fsdp = sizes
    mesh = MeshConfig(data=data, seq=seq, fsdp=fsdp, **mesh_settings)
    train = dataclasses.replace(config.train, batch_size=max(SCENES, data))
    return dataclasses.replace(config, mesh=mesh, train=train)


def streamed_alike(static: StaticParts, params, chunks: list[Chunk], sizes, tolerance: float):
    """Chunks streamed over a mesh of sizes (data, seq, fsdp) and on one device, equal at each.

    (Stream, state and last reading over the mesh, state of one device.)
    """
    data, seq, fsdp = sizes
    mesh = make_mesh(MeshConfig(data=data, seq=seq, fsdp=fsdp))
    stream = MeshStream(merge_model(static.graph, params), mesh)
    single = jax.jit(functools.partial(step, graph=static.graph))
    scenes = chunks[0].views.image.shape[0]
    state, ours = init_stream(params, scenes, graph=static.graph), stream.init(scenes)
    for chunk in chunks:
        state, read = single(params, state, chunk)
        ours, our_read = stream.step(ours, chunk)
        assert_close(ours, state, tolerance, "state ")
        assert_close(our_read, read, tolerance, "read ")
    return stream, ours, our_read, state
