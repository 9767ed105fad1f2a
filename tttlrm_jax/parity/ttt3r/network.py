"""Recorded networks of TTT3R: their configuration, and what does not recur (encoders, heads)."""

import functools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from tttlrm_jax.config import Dtype
from tttlrm_jax.config.ttt3r import TTT3RConfig
from tttlrm_jax.convert import config_from_ttt3r_shapes, params_from_published, settle
from tttlrm_jax.models import TTT3R, abstract_model
from tttlrm_jax.models.nn.point_heads import POINT_CHANNELS, DPTHead, LinearHead, PointHead
from tttlrm_jax.models.nn.rope import grid_positions, state_positions
from tttlrm_jax.models.ttt3r import Frame, frame_masks, frame_tokens
from tttlrm_jax.parity.recording import Recording, load
from tttlrm_jax.parity.report import Row, compare
from tttlrm_jax.parity.ttt3r.components import (
    COMPONENT,
    DTYPES,
    HALF_ROPE,
    PartConfig,
    arrays,
    call,
    judged,
    recorded_module,
)

HEAD = 1e-4  # |a - b| / (1 + |b|): exponentials stretch what the reference's float32 loses
OUTPUTS = {
    "pts3d_in_self_view": "points_self",
    "conf_self": "confidence_self",
    "pts3d_in_other_view": "points_world",
    "conf": "confidence_world",
    "camera_pose": "camera_pose",
    "rgb": "rgb",
}
SIGN_IN_DOUBT = 1e-3  # depth below which the linear head may put a point before or behind


def recorded_config(params: Recording, dtype: Dtype, **fixed: Any) -> TTT3RConfig:
    """Configuration of a `full_*_params.npz`: sizes from the tensors, heads from `meta`."""
    meta = params.meta["config"]
    shapes = {name: array.shape for name, array in params.under("param/").items()}
    return config_from_ttt3r_shapes(
        shapes, encoder_heads=meta["enc_heads"], decoder_heads=meta["dec_heads"],
        state_heads=meta["st_heads"], memory_heads=meta.get("mem_heads", meta["dec_heads"]),
        state_positions=meta.get("state_pe", TTT3RConfig().state_positions),
        compute_dtype=dtype, param_dtype=dtype, **fixed,
    )  # fmt: skip


@functools.lru_cache(maxsize=4)
def recorded_network(path: Path, dtype: Dtype, half_rope: bool = False) -> TTT3R:
    """The network of a `full_*_params.npz`."""
    params = load(path)
    config = recorded_config(params, dtype, half_rope=half_rope)
    abstract: Any = abstract_model(config)
    return params_from_published(settle(params.under("param/")), abstract)


def params_file(recording: Recording) -> Path:
    """The file beside a recording that holds its network's parameters.

    Where the meta data name none: that of the head in `full_<head>_...`, else the linear one's.
    """
    _, head, *_ = [*recording.path.stem.split("_"), ""]
    named = f"full_{head if recording.path.stem.startswith('full_') else 'linear'}_params.npz"
    return recording.path.with_name(recording.meta.get("params_file", named))


def channels_last(x, dtype: Dtype | None = None):
    """`[..., channel, height, width]` to `[..., height, width, channel]`."""
    return jnp.moveaxis(jnp.asarray(x, dtype), -3, -1)


def unit_rgb(image, dtype: Dtype):
    """Recorded images, `[..., 3, height, width]` in [-1, 1], as ours: [0, 1], channels last."""
    return (channels_last(image, dtype) + 1) / 2


def judged_outputs(
    recording: Recording, prefix: str, outputs: dict[str, Any], label: str, tolerance: float,
    linear: bool,
) -> Iterator[Row]:  # fmt: skip
    """Rows of everything a head says; points of the linear self view up to an unsure sign."""
    for name, ours in OUTPUTS.items():
        quantity, actual = prefix + name, np.asarray(outputs[ours])
        if quantity not in recording:
            continue
        if name == "rgb":
            actual = 2 * actual - 1
        expected = recording[quantity]
        if linear and ours == "points_self" and actual.shape == expected.shape:
            unsure = np.abs(expected[..., 2:]) < SIGN_IN_DOUBT
            opposite = np.abs(actual + expected).sum(-1, keepdims=True) < np.abs(
                actual - expected
            ).sum(-1, keepdims=True)
            actual = np.where(unsure & opposite, -actual, actual)
        row = compare(recording.path, quantity, actual, expected, tolerance, "1+abs")
        yield row.about(label)


def check_head(path: Path) -> Iterator[Row]:
    """`head_linear.npz` and `head_dpt.npz`: taps to outputs, and what lies between."""
    recording = load(path)
    for dtype in DTYPES:
        head, taps, pose_token = _recorded_head(recording, dtype)
        (positions,) = arrays(recording, dtype, "pos")
        rows, columns = (int(last) + 1 for last in recording["pos"].reshape(-1, 2).max(axis=0))

        def run(head: PointHead, taps, pose_token, positions, rows=rows, columns=columns):
            world = head.world_tokens(taps[-1], pose_token, positions)
            inner = {"cross_tokens": world, "pose_raw": head.pose(pose_token)}
            if isinstance(head, DPTHead):
                inner |= _adapter_maps(head, taps, rows, columns)
            elif isinstance(head, LinearHead):
                inner["self_feat_raw"] = head.self_view(taps[-1])
            return inner, head(taps, pose_token, positions, rows, columns)

        inner, outputs = call(head, run, taps, pose_token, positions)
        for name, actual in inner.items():
            if name in recording:  # of maps the first samples only
                actual = np.asarray(actual)[: len(recording[name])]
            yield from judged(recording, name, actual, dtype, HEAD)
        linear = isinstance(head, LinearHead)
        yield from judged_outputs(recording, "out/", outputs, dtype, HEAD, linear)


def _recorded_head(recording: Recording, dtype: Dtype):
    """Head, taps and pose token of a recording; the linear head has the last tap only."""
    prefix = "param/downstream_head."
    is_dpt = any(key.startswith(prefix + "dpt_self.") for key in recording.arrays)
    if is_dpt:
        *taps, last = arrays(recording, dtype, *(f"head_in/{index}" for index in range(4)))
    else:
        (last,) = arrays(recording, dtype, "tokens")
        taps = []
    encoder, decoder = (taps[0] if is_dpt else last).shape[-1], last.shape[-1]
    tensors = settle(recording.under("param/"))
    tensors = {name.removeprefix("downstream_head."): x for name, x in tensors.items()}
    blocks = {name.split(".")[1] for name in tensors if name.startswith("final_transform.")}
    sizes = {
        "mlp_factor": tensors["pose_head.mlp.fc1.weight"].shape[0] / decoder,
        "head_depth": len(blocks),
        "decoder_heads": recording.meta["num_heads"],
    }
    if is_dpt:
        sizes |= {
            "dpt_width": len(tensors["dpt_self.scratch.layer1_rn.weight"]),
            "dpt_last_width": len(tensors["dpt_self.head.2.weight"]),
            "dpt_layer_widths": tuple(
                len(tensors[f"dpt_self.act_postprocess.{level}.0.weight"]) for level in range(4)
            ),
        }
    else:
        pixels = len(tensors["proj.fc2.weight"]) // POINT_CHANNELS
        sizes["patch_size"] = math.isqrt(pixels)
    config = PartConfig(
        encoder_width=encoder, encoder_heads=1, ray_encoder_heads=1, decoder_width=decoder,
        state_heads=1, memory_heads=1, head="dpt" if is_dpt else "linear",
        compute_dtype=dtype, param_dtype=dtype, **sizes,
    )  # fmt: skip
    kind = DPTHead if is_dpt else LinearHead
    head = recorded_module(lambda rngs: kind(config, rngs=rngs), tensors)
    return head, (*taps, last[:, 1:]), last[:, 0]


def _adapter_maps(head: DPTHead, taps, rows: int, columns: int) -> dict[str, Any]:
    """Maps inside the adapter of the self view, channels first as recorded."""
    maps = head.self_view.reassemble(taps, rows, columns)
    paths = head.self_view.fuse(maps)
    named = {f"reassemble{index}": each for index, each in enumerate(maps)}
    named |= {f"path{4 - index}": each for index, each in enumerate(paths)}
    named["raw"] = head.self_view(taps, rows, columns)
    return {f"dpt_self/{name}": jnp.moveaxis(x, -1, 1) for name, x in named.items()}


def check_modalities(path: Path) -> Iterator[Row]:
    """`encode_modalities.npz`: both encoders, the initial state, tokens of mixed sequences."""
    recording = load(path)
    for dtype in DTYPES:
        network = recorded_network(params_file(recording), dtype)
        config, (rays,) = network.config, arrays(recording, dtype, "ray_map")
        image = unit_rgb(recording["img"], dtype)
        batch = recording["init_state"].shape[0] if "init_state" in recording else 1

        def run(network: TTT3R, image, rays, batch=batch):
            encoded = network.encode_image(image), network.encode_rays(rays)
            return *encoded, network.initial_tokens(batch)

        for name, actual in zip(
            ("img_tokens", "ray_tokens", "init_state"), call(network, run, image, rays), strict=True
        ):
            yield from judged(recording, name, actual, dtype)
        yield from _check_mixed(recording, network, dtype)
        if "img_tokens_half_rope" in recording:
            halved = recorded_network(params_file(recording), dtype, half_rope=True)
            tokens = call(halved, lambda network, x: network.encode_image(x), image)
            yield from judged(recording, "img_tokens_half_rope", tokens, dtype, HALF_ROPE)
    patch = config.patch_size
    grid = grid_positions(*(side // patch for side in recording["img"].shape[-2:]))
    for name in ("img_pos", "ray_pos"):
        yield from _check_positions(recording, name, grid)
    initial = state_positions(config.num_state_tokens, config.state_positions)
    yield from _check_positions(recording, "init_state_pos", initial)
    for kind in ("1d", "2d"):
        for count in recording.under(f"state_pos_{kind}/"):
            ours = state_positions(int(count), kind)
            yield from _check_positions(recording, f"state_pos_{kind}/{count}", ours)


def _check_positions(recording: Recording, name: str, ours) -> Iterator[Row]:
    """No row where ours are None: tokens without positions have none to compare."""
    if name in recording and ours is not None:
        expected = recording[name]
        ours = np.broadcast_to(ours, expected.shape)
        yield compare(recording.path, name, ours, expected, 0, "exact")


def _check_mixed(recording: Recording, network: TTT3R, dtype: Dtype) -> Iterator[Row]:
    """Tokens of the batch behaviour where images or ray maps are missing."""
    if "batch_mix/tokens" not in recording:
        return
    image = unit_rgb(recording["batch_mix/img"], dtype)
    (rays,) = arrays(recording, dtype, "batch_mix/ray_map")
    shape = image.shape[:2]
    masks = [
        np.broadcast_to(mask.reshape(shape[0], -1), shape)
        for mask in (recording["batch_mix/img_mask"], recording["batch_mix/ray_mask"])
    ]
    any_rays = jnp.full(shape[1], masks[1].any())

    def run(network: TTT3R, image, rays, image_mask, ray_mask):
        frame = Frame(image, ray_map=rays, image_mask=image_mask, ray_mask=ray_mask)
        masks = frame_masks(frame, network.config)
        return frame_tokens(network, frame, masks, "batch", any_rays)

    tokens = [
        call(network, run, *(jnp.asarray(x[index]) for x in (image, rays, *masks)))
        for index in range(shape[0])
    ]
    yield from judged(recording, "batch_mix/tokens", np.stack(tokens), dtype, COMPONENT)
