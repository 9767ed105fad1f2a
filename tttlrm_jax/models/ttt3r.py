"""TTT3R (arXiv 2509.26645) and CUT3R (arXiv 2501.12387): images in, points and poses out.

A state of learned tokens and a memory of poses go from frame to frame. Each frame is decoded
together with the state; the decoder proposes a new state, and a state rule says what of it is
written (`ttt.state_rules`; `cut3r` and `ttt3r` share their weights).

    graph, params = split_model(model)
    state = init_state(params, batch, graph=graph)
    state, out = live_step(params, state, Frame(image), graph=graph)        # one call a frame
    state, outs = scan_frames(params, state, frames, graph=graph)           # whole sequences
    out = live_query(params, state, ray_map, graph=graph)                   # changes no state

`step`, `query` and `scan_frames` are to be compiled by the caller. A frame's outputs depend on
the state before it, never on its own update.

Two behaviours of the reference are options of the one step. `streaming` (its demo and most of
its evaluations): after a reset the next frame is a first frame again, and image and ray tokens
are just added. `batch` (its training and 3D evaluation): a reset starts no first frame, and in
sequences with ray maps learned tokens stand in for what a frame lacks. They agree on sequences
of images without resets.

Images are RGB in [0, 1], channels last, any multiples of the patch size. Points are in OpenCV
camera axes; poses are camera-to-world, the world being the first camera of the sequence or since
the last reset.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from tttlrm_jax.config.ttt3r import Behaviour, TTT3RConfig
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.models.graph import merge_model
from tttlrm_jax.models.trunk import check_pixels, not_finite, refuse
from tttlrm_jax.models.ttt3r_network import RAY_CHANNELS, RGB_CHANNELS, TTT3R, Decoded
from tttlrm_jax.ttt.state_rules import Proposal, StateRule, build_state_rule
from tttlrm_jax.ttt.state_rules.base import rate_of, written


@flax.struct.dataclass
class Frame:
    """One frame of every scene; stacked frames have a leading frame axis on every array.

    What lies outside of a mask is ignored, whatever it holds. A frame without image, or one that is
    not to update, leaves tokens, memory, count and rule state as they are; only the first frame is
    the first whether or not it is seen, and the frame after it an ordinary one, moved by the rule.
    `reset` takes effect after the frame: the next one starts from the initial state.
    """

    image: Float[Array, "batch height width 3"]
    ray_map: Float[Array, "batch height width 6"] | None = None  # origin, direction
    image_mask: Bool[Array, " batch"] | None = None  # None: all
    ray_mask: Bool[Array, " batch"] | None = None  # None: all, where there is a ray map
    update: Bool[Array, " batch"] | None = None  # None: all
    reset: Bool[Array, " batch"] | None = None  # None: none


@flax.struct.dataclass
class RecurrentState:
    """All that one frame hands to the next."""

    tokens: Float[Array, "batch state d_model"]
    memory: Float[Array, "batch slot 2*d_model"]  # of poses
    first: Bool[Array, " batch"]  # the next frame is a first one
    num_frames: Int[Array, " batch"]  # that changed the state since its start or reset
    rule_state: Any  # the state rule's own


@flax.struct.dataclass
class FrameOutput:
    """What is known of one frame, in its own camera and in the world."""

    points_self: Float[Array, "batch height width 3"]
    confidence_self: Float[Array, "batch height width"]  # 1 or more
    points_world: Float[Array, "batch height width 3"]
    confidence_world: Float[Array, "batch height width"]
    camera_pose: Float[Array, "batch 7"]  # camera-to-world: translation, quaternion wxyz
    rgb: Float[Array, "batch height width 3"]  # in (0, 1)
    # rate of each state token in this frame's update; of a step its share of the way
    gate: Float[Array, "batch state"]


def init_state(
    params: Any, batch: int, *, graph: Any, rule: StateRule | None = None
) -> RecurrentState:
    """The state of `batch` scenes before any frame; `rule` is TTT3R's by default."""
    return _initial(merge_model(graph, params), batch, rule or build_state_rule("ttt3r"))


def _initial(model: TTT3R, batch: int, rule: StateRule) -> RecurrentState:
    tokens = model.initial_tokens(batch)
    return RecurrentState(
        tokens=tokens,
        memory=model.memory.initial(batch).astype(tokens.dtype),
        first=jnp.ones(batch, bool),
        num_frames=jnp.zeros(batch, jnp.int32),
        rule_state=rule.init(tokens),
    )


def step(
    params: Any,
    state: RecurrentState,
    frame: Frame,
    *,
    graph: Any,
    rule: StateRule | None = None,
    behaviour: Behaviour = "streaming",
    rays_in_sequence: Bool[Array, " batch"] | None = None,
) -> tuple[RecurrentState, FrameOutput]:
    """Decodes one frame of each scene with its state, then updates and perhaps resets the state.

    `rays_in_sequence` matters to the batch behaviour only: whether any frame of the scene's
    sequence has a ray map (None: whether this one has). Raises InputError for sizes that do not
    fit each other, the patch or the model.
    """
    model = merge_model(graph, params)
    chosen: StateRule = rule or build_state_rule("ttt3r")
    masked = with_masks(frame, model.config)
    initial = _initial(model, frame.image.shape[0], chosen)
    check_state(state, initial)
    read = read_frame(model, state, masked, behaviour, rays_in_sequence)
    return answer_frame(model, state, initial, masked, read, chosen, behaviour)


class FrameReading(NamedTuple):
    """A frame seen with the state before it."""

    tokens: Float[Array, "batch token d_encoder"]
    summary: Float[Array, "batch 1 d_encoder"]  # mean token: key of the pose memory
    pose_token: Float[Array, "batch 1 d_model"]  # as it goes into the decoder
    decoded: Decoded


def read_frame(
    model: TTT3R,
    state: RecurrentState,
    frame: Frame,
    behaviour: Behaviour,
    rays_in_sequence: Bool[Array, " batch"] | None = None,
) -> FrameReading:
    """Encodes a frame `with_masks`, recalls its pose token and decodes it with the state; changes
    nothing."""
    tokens = frame_tokens(model, frame, behaviour, rays_in_sequence)
    summary = jnp.mean(tokens, axis=1, keepdims=True)
    remembered = model.memory.read(summary, state.memory)
    learned = model.initial_pose_token(frame.image.shape[0])
    pose_token = _choose(state.first, learned, remembered)
    decoded = model.decode(tokens, pose_token, state.tokens, *model.grid(frame.image))
    return FrameReading(tokens, summary, pose_token, decoded)


def answer_frame(
    model: TTT3R,
    state: RecurrentState,
    initial: RecurrentState,
    frame: Frame,
    read: FrameReading,
    rule: StateRule,
    behaviour: Behaviour,
) -> tuple[RecurrentState, FrameOutput]:
    """The state after a frame `with_masks` that has been read, and what the head says about it."""
    decoded, masked = read.decoded, cast(Any, frame)  # none of its masks is None
    memory = model.memory.write(state.memory, read.summary, decoded.pose_token)
    proposal = Proposal(
        candidate=decoded.candidate, alignment=decoded.alignment,
        image_tokens=decoded.taps[3], rate_logits=decoded.rate_logits,
    )  # fmt: skip
    update, reset = masked.image_mask & masked.update, masked.reset
    moved, gate = advance(state, initial, proposal, memory, update, reset, rule, behaviour)
    return moved, FrameOutput(**model.predict(decoded, *model.grid(frame.image)), gate=gate)


def advance(
    state: RecurrentState,
    initial: RecurrentState,
    proposal: Proposal,
    memory: Float[Array, "batch slot 2*d_model"],
    update: Bool[Array, " batch"],
    reset: Bool[Array, " batch"],
    rule: StateRule,
    behaviour: Behaviour,
) -> tuple[RecurrentState, Float[Array, "batch state"]]:
    """The state after a frame, and the rate of each token before a reset.

    A first frame overwrites. The memory of poses is overwritten by every update: no rule slows
    it. A reset comes after the update.
    """
    write, rule_state = rule.update(proposal, state.rule_state, state.tokens)
    rate = rate_of(write, proposal, state.tokens)
    rate = jnp.where(state.first[:, None], 1, rate) * update[:, None].astype(rate.dtype)
    tokens = written(write, proposal, state.tokens)
    updated = RecurrentState(
        tokens=_choose(state.first, proposal.candidate, tokens),
        memory=memory,
        first=jnp.zeros_like(state.first),
        num_frames=state.num_frames + 1,
        rule_state=rule_state,
    )
    kept = state.replace(first=updated.first)
    moved = jax.tree.map(lambda new, old: _choose(update, new, old), updated, kept)
    initial = initial.replace(first=jnp.full_like(state.first, behaviour == "streaming"))
    return jax.tree.map(lambda new, old: _choose(reset, new, old), initial, moved), rate


def query(
    params: Any, state: RecurrentState, ray_map: Float[Array, "batch height width 6"], *, graph: Any
) -> FrameOutput:
    """What a camera would see, given by its ray map alone; changes nothing (gates are 0)."""
    model = merge_model(graph, params)
    check_pixels("ray_map", ray_map, RAY_CHANNELS, model.config.patch_size)
    rows, columns = model.grid(ray_map)
    tokens = model.encode_rays(ray_map)
    pose_token = model.memory.read(jnp.mean(tokens, axis=1, keepdims=True), state.memory)
    decoded = model.decode(tokens, pose_token, state.tokens, rows, columns)
    gate = jnp.zeros(state.tokens.shape[:2], state.tokens.dtype)
    return FrameOutput(**model.predict(decoded, rows, columns), gate=gate)


def scan_frames(
    params: Any,
    state: RecurrentState,
    frames: Frame,
    *,
    graph: Any,
    rule: StateRule | None = None,
    behaviour: Behaviour = "streaming",
    remat: bool = False,
    emit: Callable[[Int[Array, ""], FrameOutput], Any] | None = None,
) -> tuple[RecurrentState, Any]:
    """`step` over stacked frames; returns the last state and the outputs, stacked by frame.

    `emit(index, out)` replaces the outputs inside the scan. With `remat` the backward pass keeps
    the states between frames and computes each step again. Raises InputError for no frames, and
    in the batch behaviour for scenes without a single image (where masks are known).
    """
    num_frames = frames.image.shape[0]
    if num_frames == 0:
        raise InputError("frames=0 make no sequence; give at least one")
    mask, rays = frames.image_mask, _rays_in_sequence(frames)
    if behaviour == "batch" and _known(mask) and not np.asarray(mask).any(axis=0).all():
        raise InputError("frames.image_mask leaves a scene without any image; give one at least")

    def body(state, indexed):
        index, frame = indexed
        state, out = step(
            params, state, frame, graph=graph, rule=rule, behaviour=behaviour,
            rays_in_sequence=rays,
        )  # fmt: skip
        return state, out if emit is None else emit(index, out)

    body = jax.checkpoint(body, prevent_cse=False) if remat else body
    return jax.lax.scan(body, state, (jnp.arange(num_frames, dtype=jnp.int32), frames))


_compiled_step = jax.jit(step, static_argnames=("graph", "rule", "behaviour"))
_compiled_query = jax.jit(query, static_argnames="graph")


def live_step(
    params: Any,
    state: RecurrentState,
    frame: Frame,
    *,
    graph: Any,
    rule: StateRule | None = None,
    behaviour: Behaviour = "streaming",
    rays_in_sequence: Bool[Array, " batch"] | None = None,
) -> tuple[RecurrentState, FrameOutput]:
    """`step`, compiled once per shape, rule and behaviour, after a look at the pixels.

    Raises InputError as `step` does, and for values that are not finite within the masks.
    """
    _check_finite("frame.image", frame.image, frame.image_mask)
    if frame.ray_map is not None:
        _check_finite("frame.ray_map", frame.ray_map, frame.ray_mask)
    return _compiled_step(
        params, state, frame, graph=graph, rule=rule, behaviour=behaviour,
        rays_in_sequence=rays_in_sequence,
    )  # fmt: skip


def live_query(params: Any, state: RecurrentState, ray_map: Array, *, graph: Any) -> FrameOutput:
    """`query`, compiled once per shape, after a look at the ray map."""
    _check_finite("ray_map", ray_map, None)
    return _compiled_query(params, state, ray_map, graph=graph)


def _check_finite(field: str, pixels: Array, mask: Any) -> None:
    refuse(not_finite(pixels, 1), mask, field, "non-finite", "frame")


def with_masks(frame: Frame, config: TTT3RConfig) -> Frame:
    """The frame with every mask spelled out.

    Raises InputError for sizes that do not fit each other or the patch.
    """
    check_pixels("frame.image", frame.image, RGB_CHANNELS, config.patch_size)
    if frame.ray_map is not None:
        check_pixels("frame.ray_map", frame.ray_map, RAY_CHANNELS, config.patch_size)
        if frame.ray_map.shape[:3] != frame.image.shape[:3]:
            raise InputError.of(
                "frame.ray_map size", frame.ray_map.shape[:3],
                f"is not the image's {frame.image.shape[:3]}", "give both at one size",
            )  # fmt: skip
    elif _known(frame.ray_mask) and np.any(np.asarray(frame.ray_mask)):
        raise InputError.of("frame.ray_map", None, "is missing beside a ray_mask", "give it")

    def spelled_out(name: str, default: bool) -> Array:
        mask, batch = getattr(frame, name), frame.image.shape[0]
        mask = jnp.full(batch, default) if mask is None else jnp.asarray(mask)
        if mask.shape != (batch,):
            raise InputError.of(
                f"frame.{name} shape", mask.shape, f"is not (batch,) = ({batch},)",
                "give one entry per scene",
            )  # fmt: skip
        return mask

    defaults = {"image_mask": True, "ray_mask": frame.ray_map is not None, "update": True}
    masks = {name: spelled_out(name, value) for name, value in defaults.items()}
    return frame.replace(**masks, reset=spelled_out("reset", False))


def check_state(state: RecurrentState, expected: RecurrentState) -> None:
    """Raises InputError unless `state` has the arrays of a state of this model, rule and batch."""
    if jax.tree.structure(state) != jax.tree.structure(expected):
        raise InputError.of(
            "state", "a sequence's", "is of another state rule",
            "use the rule it was started with, or start a new sequence",
        )  # fmt: skip
    for given, wanted in zip(jax.tree.leaves(state), jax.tree.leaves(expected), strict=True):
        if given.shape != wanted.shape:
            raise InputError.of(
                "state array shape", given.shape,
                f"is not the {wanted.shape} of this model and number of scenes",
                "use the model and batch it was started with, or start a new sequence",
            )  # fmt: skip


def frame_tokens(model: TTT3R, frame: Any, behaviour: Behaviour, rays_in_sequence) -> Array:
    """Tokens of the image of a frame `with_masks` and of its ray map, added."""
    tokens = _masked(frame.image_mask, model.encode_image, frame.image)
    if frame.ray_map is not None:
        tokens = tokens + _masked(frame.ray_mask, model.encode_rays, frame.ray_map)
    if behaviour == "streaming":
        return tokens
    rays = frame.ray_mask if rays_in_sequence is None else rays_in_sequence
    for missing, token in (
        (~frame.image_mask, model.missing_image),
        (rays & ~frame.ray_mask, model.missing_rays),
    ):
        tokens = tokens + jnp.where(missing[:, None, None], token[...][None], 0)
    return tokens


def _masked(mask, encode: Callable[[Array], Array], pixels: Array) -> Array:
    """Tokens of the samples in the mask, 0 for others, whose pixels may be anything."""
    tokens = encode(_choose(mask, pixels, jnp.zeros_like(pixels)))
    return _choose(mask, tokens, jnp.zeros_like(tokens))


def _choose(condition: Bool[Array, " batch"], new: Array, old: Array) -> Array:
    return jnp.where(condition.reshape(-1, *(1,) * (new.ndim - 1)), new, old)


def _rays_in_sequence(frames: Frame) -> Bool[Array, " batch"]:
    """By scene, whether any of the stacked frames has a ray map."""
    if frames.ray_map is None or frames.ray_mask is None:
        return jnp.full(frames.image.shape[1], frames.ray_map is not None)
    return jnp.any(frames.ray_mask, axis=0)


def _known(mask: Any) -> bool:
    """Whether there is a mask whose values are known while tracing."""
    return mask is not None and not isinstance(mask, jax.core.Tracer)
