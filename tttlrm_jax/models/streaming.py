"""A stream: views arrive in chunks, and every chunk is written, then read (tttLRM Algorithm 1).

`graph, params = split_model(model)` outside of `jit`; everything here is then a pure function of
arrays, for both models. Chunk t updates the fast weights of every layer and is read with them;
what comes later changes nothing that was read before (the causal plan).

    state = init_stream(params, batch, graph=graph)
    state, gaussians = live_step(params, state, Chunk(views), graph=graph)  # one call a chunk
    gaussians = live_query(params, state, other_views, graph=graph)         # changes no state

    chunks = split_into_chunks(views, chunk_views=4)                # the last one is padded
    state, outs = scan_stream(params, state, chunks, graph=graph)   # training, evaluation

Views are `[batch, view, ...]`; the arrays of stacked chunks have a further leading chunk axis. What
is read comes out as Gaussians `[batch, virtual view x height x width]` (tttLRM) or images
`[batch, virtual view, height, width, 3]` (LVSM): of the chunk's own views, or of `chunk.virtual`.
Gaussians of masked views have opacity logit `HIDDEN_OPACITY_LOGIT` and finite values; images of
masked views are black. `StreamState` is a scene: its size does not depend on the number of views.

`step` and `query` are to be compiled by the caller; `live_step` and `live_query` are compiled and
look at values first (`check_values`). Neither changes the state it is given.
"""

from collections.abc import Callable
from typing import Any, Literal

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from tttlrm_jax.config import RuleConfig
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.types import Cameras, Chunk, Gaussians, Views
from tttlrm_jax.models.graph import merge_model, split_model
from tttlrm_jax.models.nn.block import initial_states, run_blocks
from tttlrm_jax.models.trunk import cameras_of, check_same_frame, check_views, not_finite, refuse
from tttlrm_jax.parallel.mesh import total
from tttlrm_jax.ttt import LayerState, Operation
from tttlrm_jax.ttt.rules import RULES

Accumulate = Literal["chunk", "all"]

HIDDEN_OPACITY_LOGIT = -100.0  # an opacity of 4e-44: far below what is rendered or kept
NO_CONTENT = 0.5  # pixel value whose input channel is 0


@flax.struct.dataclass
class StreamState:
    """All that one chunk hands to the next."""

    layers: LayerState  # of all layers, with a leading layer axis
    num_views: Int[Array, " batch"]  # written so far, without masked ones
    rule: RuleConfig = flax.struct.field(pytree_node=False)  # that writes it, every option named


def init_stream(params: Any, batch: int, *, graph: Any) -> StreamState:
    """The state of `batch` scenes before any view: the learned initial weights."""
    model = merge_model(graph, params)
    return StreamState(
        layers=initial_states(model.blocks, batch),
        num_views=jnp.zeros(batch, jnp.int32),
        rule=RULES.complete(model.config.rule),
    )


def step(params: Any, state: StreamState, chunk: Chunk, *, graph: Any) -> tuple[StreamState, Any]:
    """Writes one chunk into every layer, then reads it (or its virtual views), or the tokens that
    the decoder has of its own.

    Scenes of which every view is masked keep their state. Raises InputError for a chunk without
    views, sizes that do not fit each other or the patch, or a state of another model, rule or
    batch.
    """
    model = merge_model(graph, params)
    _check_chunk(chunk, model.config.patch_size)
    check_state(state, params, chunk.views.image.shape[0], graph=graph)
    queries = views = _without_masked(chunk.views, chunk.mask)
    mask = shown = chunk.mask
    tokens = model.tokenize(views)
    num_input, per_view = tokens.shape[1:3]
    operations = (Operation(0, num_input * per_view, update=True, persist=True, apply=True),)
    if chunk.virtual is not None:
        queries, shown = _without_masked(chunk.virtual, chunk.virtual_mask), chunk.virtual_mask
    own = model.own_queries(tokens.shape[0]) is not None
    if own and chunk.virtual is not None:
        raise _no_views_read(model, "chunk.virtual")
    reads_apart = chunk.virtual is not None or not (model.inputs_are_queries or own)
    if reads_apart:
        read = model.tokenize_queries(queries)
        tokens = jnp.concatenate([tokens, read], axis=1)
        operations += (Operation(num_input * per_view, tokens.shape[1] * per_view, apply=True),)
        if mask is not None:
            mask = jnp.concatenate([mask, jnp.ones(read.shape[:2], bool)], axis=1)
    tokens, layers = run_blocks(
        model.blocks, tokens, operations, state.layers, model.config.remat, mask
    )
    tokens = tokens[:, num_input:] if reads_apart else tokens
    seen = num_input if chunk.mask is None else jnp.sum(chunk.mask, axis=1, dtype=jnp.int32)
    state = state.replace(layers=layers, num_views=state.num_views + total(seen, "view"))
    if own:
        return state, read_own(model, layers, tokens.shape[0])
    return state, hide_masked(model.decode_queries(tokens, queries), shown)


def query(
    params: Any,
    state: StreamState,
    views: Views | Cameras,
    *,
    graph: Any,
    mask: Bool[Array, "batch view"] | None = None,
) -> Any:
    """Reads any views without writing them; `Cameras` are views without image.

    tttLRM is trained on queries with an image: without one its Gaussians lack detail and colour.
    Raises InputError as `step` does.
    """
    model = merge_model(graph, params)
    if model.own_queries(1) is not None:
        raise _no_views_read(model, "views")
    _check_queries(views, mask, model.config.patch_size)
    check_state(state, params, cameras_of(views).intrinsics.shape[0], graph=graph)
    views = _without_masked(views, mask)
    tokens = model.tokenize_queries(views)
    reads = (Operation(0, tokens.shape[1] * tokens.shape[2], apply=True),)
    tokens, _ = run_blocks(model.blocks, tokens, reads, state.layers, model.config.remat)
    return hide_masked(model.decode_queries(tokens, views), mask)


def read_own(model: Any, layers: LayerState, batch: int) -> Any:
    """The scenes that the decoder's own tokens find in fast weights, without writing any."""
    tokens = model.own_queries(batch)
    reads = (Operation(0, tokens.shape[1] * tokens.shape[2], apply=True),)
    tokens, _ = run_blocks(model.blocks, tokens, reads, layers, model.config.remat)
    return model.decode_own(tokens)


def scan_stream(
    params: Any,
    state: StreamState,
    chunks: Chunk,
    *,
    graph: Any,
    remat: bool = True,
    truncate: int | None = None,
    accumulate: Accumulate = "chunk",
    emit: Callable[[Int[Array, ""], Any], Any] | None = None,
) -> tuple[StreamState, Any]:
    """`step` over stacked chunks; returns the last state and what was read, stacked by chunk.

    What is read after chunk t are chunk t's virtual views, or with `accumulate="all"` those of
    chunks 0..t, again, with the weights after chunk t (the views of all chunks on one axis, later
    ones hidden). `emit(t, read)` replaces it inside the scan, e.g. by what is rendered from it.

    With `remat` the backward pass keeps the states between chunks and computes each step again.
    `truncate=k` stops gradients of the state before chunks k, 2k, ...; values do not change, and
    for k of at least the number of chunks neither do gradients. None or 0: never.
    """
    num_chunks = chunks.views.image.shape[0]
    if num_chunks == 0:
        raise InputError("chunks=0 hold no views; give at least one chunk")
    if truncate is not None and truncate < 0:
        raise InputError.of("truncate", truncate, "is negative", "use 0 or None for full gradients")
    if accumulate not in ("chunk", "all"):
        raise InputError.of("accumulate", accumulate, "is unknown", "use chunk or all")

    def body(state, indexed):
        index, chunk = indexed
        if truncate and truncate < num_chunks:
            stop = (index > 0) & (index % truncate == 0)
            state = jax.tree.map(lambda x: jnp.where(stop, jax.lax.stop_gradient(x), x), state)
        if accumulate == "all":
            chunk = _reading_all(chunk, chunks, index)
        state, out = step(params, state, chunk, graph=graph)
        return state, out if emit is None else emit(index, out)

    body = jax.checkpoint(body, prevent_cse=False) if remat else body
    return jax.lax.scan(body, state, (jnp.arange(num_chunks, dtype=jnp.int32), chunks))


def split_into_chunks(
    views: Views, chunk_views: int, mask: Bool[Array, "batch view"] | None = None
) -> Chunk:
    """Stacked chunks `[chunk, batch, chunk_views, ...]` of `[batch, view, ...]`, in order.

    The last one is padded with masked views where `chunk_views` does not divide the number of
    views; `mask` marks the views that exist. Raises InputError for a stream without views, or a
    chunk larger than the stream.
    """
    batch, num_views = views.cameras.intrinsics.shape[:2]
    if num_views == 0:
        raise InputError("views=0 make no stream; give at least one view")
    if not 0 < chunk_views <= num_views:
        raise InputError.of(
            "chunk_views", chunk_views, f"is not in 1..{num_views}, the number of views",
            "use smaller chunks or more views",
        )  # fmt: skip
    num_chunks = -(-num_views // chunk_views)
    padding = num_chunks * chunk_views - num_views
    mask = jnp.ones((batch, num_views), bool) if mask is None else jnp.asarray(mask)

    def split(x):
        x = jnp.pad(x, [(0, 0), (0, padding)] + [(0, 0)] * (x.ndim - 2))
        x = x.reshape(batch, num_chunks, chunk_views, *x.shape[2:])
        return jnp.moveaxis(x, 1, 0)

    return Chunk(views=jax.tree.map(split, views), mask=split(mask))


def live_step(
    params: Any, state: StreamState, chunk: Chunk, *, graph: Any
) -> tuple[StreamState, Any]:
    """`step`, compiled once per shape, after `check_values`."""
    _check_chunk(chunk, merge_model(graph, params).config.patch_size)
    check_values(chunk.views, chunk.mask, "chunk.views")
    if chunk.virtual is not None:
        check_values(chunk.virtual, chunk.virtual_mask, "chunk.virtual")
    return _compiled_step(params, state, chunk, graph=graph)


def live_query(
    params: Any,
    state: StreamState,
    views: Views | Cameras,
    *,
    graph: Any,
    mask: Bool[Array, "batch view"] | None = None,
) -> Any:
    """`query`, compiled once per shape, after `check_values`."""
    _check_queries(views, mask, merge_model(graph, params).config.patch_size)
    check_values(views, mask, "views")
    return _compiled_query(params, state, views, graph=graph, mask=mask)


def check_values(views: Views | Cameras, mask: Any, name: str) -> None:
    """Raises InputError naming the first view that cannot be tokens; masked views may be anything.

    A view needs finite pixels, pose and intrinsics, and focal lengths that are not 0. Reads the
    values back from the device: not for use under `jit`.
    """
    cameras = cameras_of(views)
    parts = {"world_from_camera": cameras.world_from_camera, "intrinsics": cameras.intrinsics}
    if isinstance(views, Views):
        parts["image"] = views.image
    for part, values in parts.items():
        refuse(not_finite(values, 2), mask, f"{name} {part}", "non-finite")
    no_focal = (np.asarray(cameras.intrinsics)[..., :2] == 0).any(axis=-1)
    refuse(no_focal, mask, f"{name} intrinsics", "focal length 0")


def check_state(state: StreamState, params: Any, batch: int, *, graph: Any) -> None:
    """Raises InputError unless `state` is one of `batch` scenes of this model and update rule."""
    expected = jax.eval_shape(lambda p: init_stream(p, batch, graph=graph), params)
    if state.rule != expected.rule:
        raise InputError.of(
            "state", f"a stream written by {state.rule}",
            f"is of another update rule than this model's {expected.rule}",
            "use the rule it was started with, or start a new stream",
        )  # fmt: skip
    wanted, given = _leaves(expected), _leaves(state)
    if wanted.keys() != given.keys():
        names = ", ".join(sorted(wanted.keys() ^ given.keys())[:3])
        raise InputError.of(
            "state", "a stream", f"has other entries than this model's ({names})",
            "use the model it was started with, or start a new stream",
        )  # fmt: skip
    for name, leaf in wanted.items():
        if given[name] != leaf:
            raise InputError.of(
                f"state {name}", f"{given[name][1]}{list(given[name][0])}",
                f"is not the {leaf[1]}{list(leaf[0])} of {batch} scenes of this model",
                "use the model and number of scenes it was started with, or start a new stream",
            )  # fmt: skip


def run_stream(model: Any, inputs: Views, queries: Views | Cameras | None, chunk_views: int) -> Any:
    """Writes all `inputs` chunk by chunk, then reads `queries` (None: the decoder's own tokens);
    `model` is a module."""
    graph, params = split_model(model)
    state = init_stream(params, inputs.image.shape[0], graph=graph)
    chunks = split_into_chunks(inputs, chunk_views)
    state, _ = scan_stream(params, state, chunks, graph=graph, emit=lambda index, read: None)
    if queries is None:
        return read_own(model, state.layers, inputs.image.shape[0])
    return query(params, state, queries, graph=graph)


_compiled_step = jax.jit(step, static_argnames="graph")
_compiled_query = jax.jit(query, static_argnames="graph")


def _no_views_read(model: Any, field: str) -> InputError:
    return InputError.of(
        field, "views", f"are not read by model.decoder={model.config.decoder}",
        "write views with step, which gives the scene",
    )  # fmt: skip


def _reading_all(chunk: Chunk, chunks: Chunk, index: Array) -> Chunk:
    """The chunk with the virtual views of chunks 0..index; later ones are masked."""
    views = chunks.views if chunks.virtual is None else chunks.virtual
    mask = chunks.mask if chunks.virtual is None else chunks.virtual_mask
    num_chunks, batch, num_views = cameras_of(views).intrinsics.shape[:3]
    arrived = (jnp.arange(num_chunks, dtype=jnp.int32) <= index)[:, None, None]
    arrived = jnp.broadcast_to(arrived, (num_chunks, batch, num_views))
    mask = arrived if mask is None else arrived & mask

    def on_one_axis(x):
        x = jnp.moveaxis(x, 0, 1)
        return x.reshape(batch, num_chunks * num_views, *x.shape[3:])

    views, mask = jax.tree.map(on_one_axis, (views, mask))
    return Chunk(views=chunk.views, mask=chunk.mask, virtual=views, virtual_mask=mask)


def _without_masked(views: Any, mask: Any) -> Any:
    """Views with a blank image and camera in place of masked ones, so that these cannot matter."""
    if mask is None:
        return views
    if isinstance(views, Views):
        image = jnp.where(mask[..., None, None, None], views.image, NO_CONTENT)
        return Views(image, _without_masked(views.cameras, mask))
    height, width = views.height, views.width
    poses, lens = views.world_from_camera, views.intrinsics
    focal = max(height, width)
    blank = jnp.asarray([focal, focal, width / 2, height / 2], lens.dtype)
    eye = jnp.eye(4, dtype=poses.dtype)
    poses = jnp.where(mask[..., None, None], poses, eye[None, None])
    return Cameras(poses, jnp.where(mask[..., None], lens, blank[None, None]), height, width)


def hide_masked(out: Any, mask: Bool[Array, "batch view"] | None) -> Any:
    """What was read, with Gaussians or images of masked views hidden."""
    if mask is None:
        return out
    if not isinstance(out, Gaussians):
        return jnp.where(mask[..., None, None, None], out, 0)
    shown = jnp.repeat(mask, out.opacity_logit.shape[1] // mask.shape[1], axis=1)
    return out.replace(opacity_logit=jnp.where(shown, out.opacity_logit, HIDDEN_OPACITY_LOGIT))


def _check_chunk(chunk: Chunk, patch_size: int) -> None:
    check_views(chunk.views, patch_size)
    _check_mask(chunk.views.cameras, chunk.mask, "chunk")
    if chunk.virtual is not None:
        _check_queries(chunk.virtual, chunk.virtual_mask, patch_size)
        check_same_frame(chunk.views.cameras, cameras_of(chunk.virtual), "virtual")


def _check_queries(views: Views | Cameras, mask, patch_size: int) -> None:
    check_views(views, patch_size)
    _check_mask(cameras_of(views), mask, "query")


def _check_mask(cameras: Cameras, mask, name: str) -> None:
    shape = cameras.intrinsics.shape[:2]
    if shape[1] == 0:
        raise InputError.of(f"{name} views", 0, "are none", "give at least one view")
    if mask is not None and tuple(mask.shape) != shape:
        raise InputError.of(
            f"{name} mask shape", tuple(mask.shape), f"is not (batch, view) = {shape}",
            "give one entry per view",
        )  # fmt: skip
    if mask is not None and mask.dtype != bool:
        raise InputError.of(f"{name} mask", mask.dtype, "is not bool", "give mask.astype(bool)")


def _leaves(tree: Any) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and dtype of every array by its path."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {
        jax.tree_util.keystr(path): (tuple(leaf.shape), str(jnp.dtype(leaf.dtype)))
        for path, leaf in leaves
    }
