"""Bytes that cross a mesh between views and Gaussians, read from compiled programs.

On eight simulated devices, in float64. What is expected is counted on paper, never measured: an
update's inner gradient has 3 x d x d_hid / heads numbers a scene and crosses the mesh once in each
pass over the update.
"""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from benchmarks.collectives import collective_bytes
from tests.sharding.scene import run_config
from tttlrm_jax.config import MeshConfig, ModelConfig
from tttlrm_jax.core.types import Cameras, Views
from tttlrm_jax.models import abstract_model, merge_model, split_model
from tttlrm_jax.parallel.mesh import Layout, make_mesh, total

DEVICES, CHUNK = 8, 8  # all along seq; views per update of the plans with chunks
HEIGHT, WIDTH = 12, 16
FEW_NUMBERS = 8 * 8  # bytes: the test's own sum; in a stream how many views each chunk has
REMAT = ("none", "dots", "linear", "block")
GRADIENTS = [
    *itertools.product(("full", "sequential", "causal"), REMAT, (2,)),
    *itertools.product(("sequential",), ("block",), (1, 4)),
]
FORWARDS = [
    *itertools.product(("full", "sequential"), ("none", "block"), (8, 16), (1,)),
    *itertools.product(("causal",), ("none", "block"), (16,), (2,)),
    ("sequential", "none", 24, 4),
]


def model_config(remat: str, heads: int) -> ModelConfig:
    """The tiny model with the published width of the fast weights."""
    model = run_config("unused").model
    return dataclasses.replace(model, remat=remat, num_ttt_heads=heads, ttt_inner_factor=4.0)


def inner_gradients(config: ModelConfig, updates: int) -> int:
    """Bytes of the inner gradients of all layers and updates of one scene."""
    per_update = 3 * config.d_model * 4 * config.d_model // config.num_ttt_heads
    return updates * config.num_layers * per_update * np.dtype(config.param_dtype).itemsize


def passes_with_gradient(plan: str, remat: str) -> int:
    """How often the program of a gradient passes an update: forward, backward, and again where
    Newton-Schulz needs the sum that was not stored. A stream computes each step again, and a
    policy other than `none` each layer within it."""
    return 2 + (remat != "none") + (plan == "causal")


def moved_bytes(config: ModelConfig, plan: str, num_views: int, *, gradient: bool) -> int:
    """Bytes that one device puts into collectives between one scene's views and a sum over its
    Gaussians, that of the sum included."""
    graph, params = split_model(abstract_model(config))
    layout = Layout.of(make_mesh(MeshConfig(seq=DEVICES)), 1, num_views, CHUNK)

    def local(params, views):
        with layout.region(params):
            model = merge_model(graph, params)
            gaussians = model(views, plan=plan, chunk_views=CHUNK // DEVICES)
            return total(sum(jnp.sum(x * x) for x in jax.tree.leaves(gaussians)), "gaussian")

    outcome = jax.shard_map(
        local, mesh=layout.mesh, in_specs=(PartitionSpec(), layout.spec("batch", "view")),
        out_specs=PartitionSpec(), check_vma=False,
    )  # fmt: skip
    views = jax.eval_shape(functools.partial(blank_views, config, num_views))
    program = jax.jit(jax.grad(outcome) if gradient else outcome).lower(params, views).compile()
    return sum(collective_bytes(program.as_text() or "").values())


def blank_views(config: ModelConfig, num_views: int) -> Views:
    """Views of one scene, for their shapes."""
    zeros = functools.partial(jnp.zeros, dtype=config.param_dtype)
    cameras = Cameras(zeros((1, num_views, 4, 4)), zeros((1, num_views, 4)), HEIGHT, WIDTH)
    return Views(zeros((1, num_views, HEIGHT, WIDTH, 3)), cameras)


@pytest.mark.parametrize(("plan", "remat", "num_views", "heads"), FORWARDS)
def test_forward_moves_inner_gradients_alone(plan, remat, num_views, heads):
    """However many views there are: 16 in one update move what 8 do."""
    config = model_config(remat, heads)
    updates = 1 if plan == "full" else num_views // CHUNK
    moved = moved_bytes(config, plan, num_views, gradient=False)
    assert 0 <= moved - inner_gradients(config, updates) <= FEW_NUMBERS


@pytest.mark.parametrize(("plan", "remat", "heads"), GRADIENTS)
def test_gradient_moves_inner_gradients_in_each_pass_and_its_own(plan, remat, heads):
    config = model_config(remat, heads)
    updates = 1 if plan == "full" else 2
    params = split_model(abstract_model(config))[1]
    own = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(params))
    expected = passes_with_gradient(plan, remat) * inner_gradients(config, updates) + own
    moved = moved_bytes(config, plan, 2 * CHUNK, gradient=True)
    assert 0 <= moved - expected <= FEW_NUMBERS
