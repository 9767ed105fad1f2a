"""Recurrent runs of TTT3R against their recordings: update rules, and whole networks."""

import functools
from collections.abc import Iterator
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np

from tttlrm_jax.config.ttt3r import Behaviour
from tttlrm_jax.models import TTT3R
from tttlrm_jax.models.graph import merge_model, split_model
from tttlrm_jax.models.nn.rope import grid_positions, state_positions
from tttlrm_jax.models.ttt3r import (
    Frame,
    RecurrentState,
    advance,
    answer_frame,
    init_state,
    query,
    read_frame,
    with_masks,
)
from tttlrm_jax.parity.recording import VARIANTS, Recording, quick_jit
from tttlrm_jax.parity.report import Row
from tttlrm_jax.parity.ttt3r.components import HALF_ROPE, recorded
from tttlrm_jax.parity.ttt3r.network import (
    judged_outputs,
    judged_positions,
    recorded_network,
    unit_rgb,
)
from tttlrm_jax.ttt.state_rules import Proposal, build_state_rule

RECURRENT = 1e-4  # |a - b| / (1 + |b|), the recordings' own bound for float32


def recorded_behaviour(recording: Recording, name: str) -> tuple[Behaviour, str]:
    """Behaviour and state rule of a run: what the meta data say, else its `<path>_<mode>` name.

    A third path of the reference knows `cut3r` only, whatever its name says.
    """
    words = name.split("_")
    named = next((word for word in words if word in get_args(Behaviour)), "")
    path = recording.meta.get("path", named)
    rule = recording.meta.get("model_update_type", "ttt3r" if "ttt3r" in words else "cut3r")
    if path in get_args(Behaviour):
        return path, rule
    return "batch", "cut3r"


def check_state_update(recording: Recording) -> Iterator[Row]:
    """`state_update.npz`: recorded proposals through the gate, masks and resets."""
    for case in recording.cases("/candidate_state"):
        behaviour, rule = recorded_behaviour(recording, case)
        steps = _update_steps(recording.under(f"{case}/"), behaviour, rule)
        made, prefix, name = _by_name(steps), f"{case}/", "used_learned_pose_token"
        learned = {name: made.pop(name)}
        yield from recording.compare_all(learned, 0, "exact", prefix, optional=True)
        yield from recorded(recording, made, prefix=prefix)


def _update_steps(given: dict, behaviour: Behaviour, rule_name: str) -> Iterator[dict[str, Any]]:
    """What every frame of a case leaves behind, by recorded name."""
    rule = build_state_rule(rule_name)
    image_mask = given.get("img_mask", np.ones(given["candidate_state"].shape[:2], bool))
    updates = np.logical_and(given.get("update", image_mask), image_mask)
    resets = given.get("reset", np.zeros_like(updates))
    batch, tokens = given["init_state"].shape[0], jnp.asarray(given["init_state"])
    state = initial = RecurrentState(
        tokens=tokens, memory=jnp.asarray(given["init_mem"]), first=jnp.ones(batch, bool),
        num_frames=jnp.zeros(batch, jnp.int32), rule_state=rule.init(tokens),
    )  # fmt: skip
    # frame, layer, batch, head, state, key -> frame, batch, layer, head, state
    alignment = np.swapaxes(given["cross_attn_state_logits"].mean(axis=-1), 1, 2)
    frames = (given["candidate_state"], alignment, given["candidate_mem"], updates, resets)
    for frame in zip(*frames, strict=True):
        candidate, aligned, memory, update, reset = map(jnp.asarray, frame)
        first = np.asarray(state.first).all()
        proposal = Proposal(candidate=candidate, alignment=aligned)
        state, gate = advance(state, initial, proposal, memory, update, reset, rule, behaviour)
        yield {
            "used_learned_pose_token": first,
            "gate": gate,
            "state_after": state.tokens,
            "mem_after": state.memory,
        }


def _by_name(frames) -> dict[str, np.ndarray]:
    """Values by name, stacked over frames, from those of each frame by name."""
    frames = list(frames)
    return {name: np.stack([np.asarray(each[name]) for each in frames]) for name in frames[0]}


def check_run(recording: Recording) -> Iterator[Row]:
    """`full_<head>_<path>_<mode>[_case].npz`: every stage of every frame of a sequence."""
    half = "half" in recording.path.stem
    network = recorded_network(recording, VARIANTS["fp32"], half_rope=half)
    tolerance = HALF_ROPE if half else RECURRENT
    outputs, stages = run_sequence(recording, network)
    yield from recorded(recording, stages, tolerance)
    linear = network.config.head == "linear"
    yield from judged_outputs(recording, "out/", outputs, tolerance, linear)
    if "query/ray_map" in recording:
        queried = _queried(recording, network)
        yield from judged_outputs(recording, "query/out/", queried, tolerance, linear)
    yield from check_positions(recording, network)


def check_positions(recording: Recording, network: TTT3R) -> Iterator[Row]:
    """Positions of the state and of the image grid."""
    config = network.config
    rows, columns = (side // config.patch_size for side in recording["in/img"].shape[-2:])
    made = {
        "state_pos": state_positions(config.num_state_tokens, config.state_positions),
        "img_pos": grid_positions(rows, columns),
    }
    return judged_positions(recording, made)


def recorded_frames(recording: Recording, network: TTT3R) -> list[Frame]:
    """The frames of a run; pixels outside of the masks become NaN, which nothing may see."""
    image = unit_rgb(recording["in/img"], VARIANTS["fp32"])
    image_mask = recording.arrays.get("in/img_mask", np.ones(image.shape[:2], bool))
    optional: dict[str, Any] = {"image_mask": image_mask} | {
        name: recording.arrays.get(f"in/{name}") for name in ("update", "reset")
    }
    if "in/ray_map" in recording:
        mask = optional["ray_mask"] = _ray_mask(recording)
        rays = recording["in/ray_map"]
        optional["ray_map"] = np.where(mask[..., None, None, None], rays, np.float32(np.nan))
    pictures: Any = np.where(image_mask[..., None, None, None], image, np.nan)
    frames = Frame(pictures, **optional)
    each = [jax.tree.map(lambda x, i=i: jnp.asarray(x[i]), frames) for i in range(len(image))]
    return [with_masks(frame, network.config) for frame in each]


def _ray_mask(recording: Recording) -> np.ndarray:
    """Which frames of which scenes have a ray map, [frame, batch]; all where nothing is said."""
    if "in/ray_map" not in recording:
        return np.zeros((1, 1), bool)
    return recording.arrays.get("in/ray_mask", np.ones(recording["in/ray_map"].shape[:2], bool))


def run_sequence(
    recording: Recording, network: TTT3R, scores: bool = True
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Outputs by name and recorded stages by key, stacked over frames, of one program per frame.

    `scores=False` leaves out the attention scores, which are large.
    """
    behaviour, rule_name = recorded_behaviour(recording, recording.path.stem)
    graph, params = split_model(network)
    rule, frames = build_state_rule(rule_name), recorded_frames(recording, network)
    batch = frames[0].image.shape[0]
    rays = jnp.full(batch, _ray_mask(recording).any())
    state = init_state(params, batch, graph=graph, rule=rule)
    start = {"init_state": np.asarray(state.tokens), "init_mem": np.asarray(state.memory)}
    outs, stages = [], []
    for frame in frames:
        state, out, stage = _one_frame(params, state, frame, rays, graph, rule, behaviour, scores)
        outs.append(vars(out))
        stages.append(stage)
    outputs = _by_name(outs)
    return outputs, {**start, **_by_name(stages), "gate": outputs["gate"]}


@functools.partial(quick_jit, static_argnames=("graph", "rule", "behaviour", "scores"))
def _one_frame(params, state, frame: Frame, rays, graph, rule, behaviour, scores: bool):
    """`models.ttt3r.step`, and what lies between: the frame is read once for both."""
    network = merge_model(graph, params)
    initial = init_state(params, frame.image.shape[0], graph=graph, rule=rule)
    read = read_frame(network, state, frame, behaviour, rays)
    moved, out = answer_frame(network, state, initial, frame, read, rule, behaviour)
    return moved, out, stages_of(network, state, moved, read, frame, scores)


def stages_of(network: TTT3R, state, moved, read, frame: Frame, scores: bool) -> dict[str, Any]:
    """What lies between the images and the outputs of one frame, by recorded key."""
    decoded = read.decoded
    stages = {
        "enc_feat": read.tokens,
        "pose_token_in": read.pose_token,
        "pose_token_out": decoded.pose_token,
        "candidate_state": decoded.candidate,
        "candidate_mem": network.memory.write(state.memory, read.summary, decoded.pose_token),
        "state_before": state.tokens,
        "state_after": moved.tokens,
        "mem_before": state.memory,
        "mem_after": moved.memory,
        "head_in/0": decoded.taps[0],
        "head_in/3": jnp.concatenate([decoded.pose_token, decoded.taps[3]], axis=1),
        # the reference puts the scenes of a batch together before it averages
        "cross_attn_logit_mean_per_layer": jnp.mean(decoded.alignment, axis=(0, 2)),
    }
    if scores:
        _, _, (layers, _, observed) = network.run_branches(
            read.tokens, read.pose_token, state.tokens, *network.grid(frame.image),
            observe=lambda block, *pair: block.cross_scores(*pair),
        )  # fmt: skip
        depth = network.config.decoder_depth
        stages["cross_attn_state_logits"] = observed
        stages["head_in/1"], stages["head_in/2"] = (
            layers[depth // 2 - 1],
            layers[3 * depth // 4 - 1],
        )
    return stages


def _queried(recording: Recording, network: TTT3R) -> dict[str, Any]:
    """Outputs by name of the read-only query by ray map that is recorded."""
    graph, params = split_model(network)
    rays, tokens, memory = (
        jnp.asarray(recording[f"query/{name}"]) for name in ("ray_map", "state", "mem")
    )
    state = init_state(params, rays.shape[0], graph=graph).replace(tokens=tokens, memory=memory)
    return vars(quick_jit(lambda p, s, r: query(p, s, r, graph=graph))(params, state, rays))
