"""tttLRM's Gaussians of one scene over a mesh: views, tokens and Gaussians lie over its devices.

    inputs, order = placed_inputs(inputs, mesh, plan, chunk_views)
    run = jax.jit(reconstruction(graph, mesh, plan, chunk_views, keep_ratio, random_ratio))
    gaussians, kept = run(params, inputs, key)

Gaussians stay where their views are; `kept` are those that pruning of the whole scene keeps, the
same and in the same order as on one device. For that every device sorts the opacities of all, one
number for each Gaussian; nothing else of them is gathered.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Int

from tttlrm_jax.config import Plan
from tttlrm_jax.core.types import Gaussians, Views
from tttlrm_jax.models.graph import merge_model
from tttlrm_jax.models.tttlrm import kept_indices
from tttlrm_jax.parallel.mesh import Layout, gather_outer_parameters, put_whole, view_order
from tttlrm_jax.parallel.processes import host_value


def scene_layout(mesh: Mesh, num_views: int, plan: Plan, chunk_views: int) -> Layout:
    """How one scene lies on the mesh. Raises InputError where views or chunks do not split."""
    return Layout.of(mesh, 1, num_views, chunk_views if plan == "sequential" else None)


def dealt(num_views: int, plan: Plan, chunk_views: int, layout: Layout) -> np.ndarray:
    """Number of the view at each place [view]: every device has its share of every chunk."""
    chunk = chunk_views if plan == "sequential" else num_views
    return view_order(num_views, chunk, layout.size("view"))


def placed_inputs(inputs: Views, mesh: Mesh, plan: Plan, chunk_views: int) -> Views:
    """The views `[1, view, ...]`, dealt out over the mesh."""
    layout = scene_layout(mesh, inputs.image.shape[1], plan, chunk_views)
    order = dealt(inputs.image.shape[1], plan, chunk_views, layout)
    sharding = layout.sharding("batch", "view")
    return jax.tree.map(lambda x: put_whole(np.asarray(x)[:, order], sharding), inputs)


def reconstruction(
    graph: Any, mesh: Mesh, plan: Plan, chunk_views: int, keep_ratio: float, random_ratio: float
) -> Callable[[Any, Views, Array], tuple[Gaussians, Int[Array, " kept"]]]:
    """(parameters, dealt inputs, key) to all Gaussians and the places among them that are kept."""

    def run(params: Any, inputs: Views, key: Array) -> tuple[Gaussians, Int[Array, " kept"]]:
        num_views = inputs.image.shape[1]
        layout = scene_layout(mesh, num_views, plan, chunk_views)
        held_chunk = max(chunk_views // layout.size("view"), 1)

        def local(held, inputs) -> Gaussians:
            with layout.region(params):
                network = merge_model(graph, gather_outer_parameters(held))
                return network(inputs, plan=plan, chunk_views=held_chunk)

        mapped = jax.shard_map(
            local, mesh=mesh, check_vma=False, out_specs=layout.spec("batch", "gaussian"),
            in_specs=(layout.parameter_specs(params), layout.spec("batch", "view")),
        )  # fmt: skip
        gaussians = jax.tree.map(lambda x: x[0], mapped(params, inputs))
        places = _places(dealt(num_views, plan, chunk_views, layout), gaussians)
        if keep_ratio == 1:
            return gaussians, places
        whole = NamedSharding(mesh, PartitionSpec())
        opacity = jax.lax.with_sharding_constraint(gaussians.opacity_logit, whole)
        kept = kept_indices(opacity[places][None], keep_ratio, random_ratio, key)[0]
        return gaussians, places[kept]

    return run


def _places(order: np.ndarray, gaussians: Gaussians) -> Int[Array, " gaussian"]:
    """Where each Gaussian of the scene lies, in the order of one device."""
    per_view = gaussians.opacity_logit.shape[0] // len(order)
    place_of_view = jnp.asarray(np.argsort(order), jnp.int32)
    within = jnp.arange(per_view, dtype=jnp.int32)
    return (place_of_view[:, None] * per_view + within[None]).reshape(-1)


def collected(gaussians: Gaussians, kept: Int[Array, " kept"]) -> Gaussians:
    """The Gaussians that are kept, NumPy arrays on the host of every process."""
    places = host_value(kept)
    return jax.tree.map(lambda x: host_value(x)[places], gaussians)
