"""A stream over a mesh: `streaming.step` and `query` with scenes over `data`, views over `seq`.

    stream = MeshStream(model, mesh)
    state = stream.init(batch)
    state, gaussians = stream.step(state, Chunk(views))
    gaussians = stream.query(state, other_views)

Values equal `live_step` and `live_query` but for the order of summation. Parameters lie over
`fsdp`; the state of a scene is on all devices that hold views of it, what is read lies where its
views do.
"""

from typing import Any

import jax
from flax import nnx
from jax.sharding import Mesh, PartitionSpec

from tttlrm_jax.core.types import Cameras, Chunk, Views
from tttlrm_jax.models import streaming
from tttlrm_jax.models.graph import split_model
from tttlrm_jax.models.streaming import StreamState
from tttlrm_jax.models.trunk import cameras_of
from tttlrm_jax.parallel.mesh import Layout, gather_outer_parameters


class MeshStream:
    """Compiled steps and queries of one model over one mesh."""

    def __init__(self, model: nnx.Module, mesh: Mesh):
        self.mesh = mesh
        self._graph, pure = split_model(model)
        whole = Layout.of(mesh, mesh.shape["data"], mesh.shape["seq"])
        self._params = jax.device_put(pure, whole.parameter_shardings(pure))
        self._step = jax.jit(self._mapped_step)
        self._query = jax.jit(self._mapped_query)

    def init(self, batch: int) -> StreamState:
        """The state of `batch` scenes before any view."""
        layout = Layout.of(self.mesh, batch, self.mesh.shape["seq"])

        def first(params):
            return streaming.init_stream(params, batch, graph=self._graph)

        shapes = jax.eval_shape(first, self._params)
        shardings = jax.tree.map(
            lambda spec: jax.NamedSharding(self.mesh, spec), _state_specs(shapes, layout)
        )
        return jax.jit(first, out_shardings=shardings)(self._params)

    def step(self, state: StreamState, chunk: Chunk) -> tuple[StreamState, Any]:
        """`streaming.step`. Raises InputError where scenes, views or virtual views do not split."""
        return self._step(self._params, state, chunk)

    def query(self, state: StreamState, views: Views | Cameras, mask: Any = None) -> Any:
        """`streaming.query`. Raises InputError where scenes or views do not split."""
        return self._query(self._params, state, views, mask)

    def _mapped_step(self, params, state: StreamState, chunk: Chunk):
        batch, views = chunk.views.image.shape[:2]
        virtual = None if chunk.virtual is None else cameras_of(chunk.virtual).intrinsics.shape[1]
        layout = Layout.of(self.mesh, batch, views, virtual)
        out_specs = (_state_specs(state, layout), layout.spec("batch", "view"))
        return self._mapped(streaming.step, layout, out_specs, params, state, chunk)

    def _mapped_query(self, params, state: StreamState, views: Views | Cameras, mask):
        layout = Layout.of(self.mesh, *cameras_of(views).intrinsics.shape[:2])

        def read(params, state, views, mask, *, graph):
            return streaming.query(params, state, views, graph=graph, mask=mask)

        lie = layout.spec("batch", "view")
        return self._mapped(read, layout, lie, params, state, views, mask)

    def _mapped(self, function, layout: Layout, out_specs, params, state: StreamState, *arrays):
        """`function(params, state, *arrays)` over the mesh."""

        def local(held, state, *arrays):
            with layout.region(params):
                return function(gather_outer_parameters(held), state, *arrays, graph=self._graph)

        lie = [layout.spec("batch", "view") for _ in arrays]
        in_specs = (layout.parameter_specs(params), _state_specs(state, layout), *lie)
        mapped = jax.shard_map(
            local, mesh=self.mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False
        )
        return mapped(params, state, *arrays)


def _state_specs(state: StreamState, layout: Layout) -> Any:
    """A state with specs in place of arrays: scenes over `data`, what they share whole."""

    def of_layers(leaf) -> PartitionSpec:
        return layout.spec(None, "batch") if len(leaf.shape) > 1 else PartitionSpec()

    layers = jax.tree.map(of_layers, state.layers)
    return jax.tree.unflatten(
        jax.tree.structure(state), [*jax.tree.leaves(layers), layout.spec("batch")]
    )
