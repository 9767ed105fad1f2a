"""Recurrent runs of TTT3R against their recordings: update rules, and whole networks."""

from collections.abc import Iterator
from pathlib import Path
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
    frame_masks,
    init_state,
    query,
    read_frame,
    step,
)
from tttlrm_jax.parity.recording import Recording, load, quick_jit
from tttlrm_jax.parity.report import Row, compare
from tttlrm_jax.parity.ttt3r.components import COMPONENT, HALF_ROPE, MEASURE
from tttlrm_jax.parity.ttt3r.network import judged_outputs, params_file, recorded_network, unit_rgb
from tttlrm_jax.ttt.state_rules import Proposal, build_state_rule

RECURRENT = 1e-4  # |a - b| / (1 + |b|), the recordings' own bound for float32
STATE = ("state", "mem")


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


def check_state_update(path: Path) -> Iterator[Row]:
    """`state_update.npz`: recorded proposals through the gate, masks and resets."""
    recording = load(path)
    for case in recording.cases("/candidate_state"):
        behaviour, rule_name = recorded_behaviour(recording, case)
        rule = build_state_rule(rule_name)
        given = recording.under(f"{case}/")
        image_mask = given.get("img_mask", np.ones(given["candidate_state"].shape[:2], bool))
        updates = np.logical_and(given.get("update", image_mask), image_mask)
        resets = given.get("reset", np.zeros_like(updates))
        batch = given["init_state"].shape[0]
        tokens = jnp.asarray(given["init_state"])
        initial = RecurrentState(
            tokens=tokens, memory=jnp.asarray(given["init_mem"]), first=jnp.ones(batch, bool),
            num_frames=jnp.zeros(batch, jnp.int32), rule_state=rule.init(tokens),
        )  # fmt: skip
        # frame, layer, batch, head, state, key -> frame, batch, layer, head, state
        alignment = np.swapaxes(given["cross_attn_state_logits"].mean(axis=-1), 1, 2)
        state, found = initial, {}
        for index in range(len(updates)):
            found.setdefault("used_learned_pose_token", []).append(np.asarray(state.first).all())
            proposal = Proposal(
                candidate=jnp.asarray(given["candidate_state"][index]),
                alignment=jnp.asarray(alignment[index]),
            )
            state, gate = advance(
                state, initial, proposal, jnp.asarray(given["candidate_mem"][index]),
                jnp.asarray(updates[index]), jnp.asarray(resets[index]), rule, behaviour,
            )  # fmt: skip
            for name, value in (
                ("gate", gate), ("state_after", state.tokens), ("mem_after", state.memory)
            ):  # fmt: skip
                found.setdefault(name, []).append(np.asarray(value))
        for name, values in found.items():
            quantity = f"{case}/{name}"
            if quantity in recording:
                measure = "exact" if name.startswith("used") else MEASURE
                expected = recording[quantity]
                yield compare(path, quantity, np.stack(values), expected, COMPONENT, measure)


def check_run(path: Path) -> Iterator[Row]:
    """`full_<head>_<path>_<mode>[_case].npz`: every stage of every frame of a sequence."""
    recording = load(path)
    half = "half" in path.stem
    network = recorded_network(params_file(recording), "float32", half_rope=half)
    tolerance = HALF_ROPE if half else RECURRENT
    linear = network.config.head == "linear"
    outputs, stages = run_sequence(recording, network)
    for name, actual in stages.items():
        if name in recording:
            yield compare(path, name, actual, recording[name], tolerance, MEASURE)
    yield from judged_outputs(recording, "out/", outputs, "", tolerance, linear)
    yield from _check_query(recording, network, tolerance)
    yield from check_positions(recording, network)


def check_positions(recording: Recording, network: TTT3R) -> Iterator[Row]:
    """Positions of the state and of the image grid."""
    config = network.config
    rows, columns = (side // config.patch_size for side in recording["in/img"].shape[-2:])
    ours = {
        "state_pos": state_positions(config.num_state_tokens, config.state_positions),
        "img_pos": grid_positions(rows, columns),
    }
    for name, positions in ours.items():
        if name in recording and positions is not None:
            expected = recording[name]
            positions = np.broadcast_to(positions, expected.shape)
            yield compare(recording.path, name, positions, expected, 0, "exact")


def recorded_frames(recording: Recording) -> list[Frame]:
    """The frames of a run; pixels outside of the masks become NaN, which nothing may see."""
    image = np.asarray(unit_rgb(recording["in/img"], "float32"))
    image_mask = recording.arrays.get("in/img_mask", np.ones(image.shape[:2], bool))
    image = np.where(image_mask[..., None, None, None], image, np.nan)
    optional: dict[str, Any] = {
        name: recording.arrays.get(f"in/{name}")
        for name in ("ray_map", "ray_mask", "update", "reset")
    }
    if optional["ray_map"] is not None:
        optional["ray_mask"] = _ray_mask(recording)
        mask = optional["ray_mask"][..., None, None, None]
        optional["ray_map"] = np.where(mask, optional["ray_map"], np.float32(np.nan))
    else:
        del optional["ray_mask"]
    frames = Frame(jnp.asarray(image), image_mask=jnp.asarray(image_mask), **optional)
    return [
        jax.tree.map(lambda x, index=index: jnp.asarray(x[index]), frames)
        for index in range(len(image))
    ]


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
    rule, frames = build_state_rule(rule_name), recorded_frames(recording)
    batch = frames[0].image.shape[0]
    rays = jnp.full(batch, _ray_mask(recording).any())

    @quick_jit
    def one_frame(params, state, frame):
        network = merge_model(graph, params)
        masks = frame_masks(frame, network.config)
        read = read_frame(network, state, frame, masks, behaviour, rays)
        moved, out = step(
            params, state, frame, graph=graph, rule=rule, behaviour=behaviour, rays_in_sequence=rays
        )
        return moved, out, stages_of(network, state, moved, read, frame, scores)

    state = init_state(params, batch, graph=graph, rule=rule)
    start = {"init_state": np.asarray(state.tokens), "init_mem": np.asarray(state.memory)}
    outs, stages = [], []
    for frame in frames:
        state, out, stage = one_frame(params, state, frame)
        outs.append(jax.tree.map(np.asarray, vars(out)))
        stages.append(jax.tree.map(np.asarray, stage))
    stacked_out, stacked = (
        {name: np.stack([each[name] for each in every]) for name in every[0]}
        for every in (outs, stages)
    )
    return stacked_out, {**start, **stacked, "gate": stacked_out["gate"]}


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


def _check_query(recording: Recording, network: TTT3R, tolerance: float) -> Iterator[Row]:
    """A read-only query by ray map, where one is recorded."""
    if "query/ray_map" not in recording:
        return
    graph, params = split_model(network)
    rays, tokens, memory = (
        jnp.asarray(recording[f"query/{name}"]) for name in ("ray_map", *STATE)
    )  # fmt: skip
    state = init_state(params, rays.shape[0], graph=graph).replace(tokens=tokens, memory=memory)
    out = quick_jit(lambda p, s, r: query(p, s, r, graph=graph))(params, state, rays)
    linear = network.config.head == "linear"
    yield from judged_outputs(recording, "query/out/", vars(out), "", tolerance, linear)
