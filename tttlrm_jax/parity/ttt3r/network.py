"""Recorded networks of TTT3R: their configuration, and what does not recur (encoders, heads)."""

import functools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from tttlrm_jax.config.ttt3r import TTT3RConfig
from tttlrm_jax.convert import (
    config_from_ttt3r_shapes,
    params_from_published,
    published_shapes,
    settle,
)
from tttlrm_jax.models import TTT3R, abstract_model
from tttlrm_jax.models.nn.point_heads import POINT_CHANNELS, DPTHead, LinearHead, PointHead
from tttlrm_jax.models.nn.rope import grid_positions, state_positions
from tttlrm_jax.models.ttt3r import Frame, frame_tokens, with_masks
from tttlrm_jax.parity.modules import call, compare_shapes, published_module
from tttlrm_jax.parity.recording import VARIANTS, Recording, Variant, load
from tttlrm_jax.parity.report import Row
from tttlrm_jax.parity.ttt3r.components import (
    HALF_ROPE,
    PartConfig,
    arrays,
    by_precision,
    dtypes,
    recorded,
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


def recorded_config(params: Recording, variant: Variant, **fixed: Any) -> TTT3RConfig:
    """Configuration of a `full_*_params.npz`: sizes from the tensors, heads from `meta`."""
    meta = params.meta["config"]
    shapes = {name: array.shape for name, array in params.under("param/").items()}
    return config_from_ttt3r_shapes(
        shapes, encoder_heads=meta["enc_heads"], decoder_heads=meta["dec_heads"],
        state_heads=meta["st_heads"], memory_heads=meta.get("mem_heads", meta["dec_heads"]),
        state_positions=meta.get("state_pe", TTT3RConfig().state_positions),
        **dtypes(variant), **fixed,
    )  # fmt: skip


@functools.lru_cache(maxsize=4)
def _network(path: Path, variant: Variant, half_rope: bool) -> TTT3R:
    params = load(path)
    abstract: Any = abstract_model(recorded_config(params, variant, half_rope=half_rope))
    return params_from_published(settle(params.under("param/")), abstract)


def recorded_network(recording: Recording, variant: Variant, half_rope: bool = False) -> TTT3R:
    """The network of a recording: its tensors lie in a `full_*_params.npz` beside it.

    Where the meta data do not name it: that of the head in `full_<head>_...`, else the linear
    one's.
    """
    stem = recording.path.stem
    head = stem.split("_")[1] if stem.startswith("full_") else "linear"
    name = recording.meta.get("params_file", f"full_{head}_params.npz")
    return _network(recording.path.with_name(name), variant, half_rope)


def check_params(recording: Recording) -> Iterator[Row]:
    """`full_<head>_params.npz` holds inputs of the runs: its tensors must be all of a network."""
    tensors = settle(recording.under("param/"))
    ours = published_shapes(abstract_model(recorded_config(recording, VARIANTS["fp32"])))
    return compare_shapes(recording, ours, {name: x.shape for name, x in tensors.items()})


def unit_rgb(image, variant: Variant):
    """Recorded images, `[..., 3, height, width]` in [-1, 1], as ours: [0, 1], channels last."""
    return (np.moveaxis(np.asarray(image, variant.dtype), -3, -1) + 1) / 2


def judged_outputs(
    recording: Recording, prefix: str, outputs: dict[str, Any], tolerance: float, linear: bool
) -> Iterator[Row]:
    """Rows of everything a head says; points of the linear self view up to an unsure sign."""
    made = {name: np.asarray(outputs[ours]) for name, ours in OUTPUTS.items()}
    made["rgb"] = 2 * made["rgb"] - 1
    points = made["pts3d_in_self_view"]
    expected = recording.arrays.get(f"{prefix}pts3d_in_self_view")
    if linear and expected is not None and expected.shape == points.shape:
        unsure = np.abs(expected[..., 2:]) < SIGN_IN_DOUBT
        opposite, same = (
            np.abs(points + sign * expected).sum(-1, keepdims=True) for sign in (1, -1)
        )
        made["pts3d_in_self_view"] = np.where(unsure & (opposite < same), -points, points)
    return recorded(recording, made, tolerance, prefix)


@by_precision
def check_head(recording: Recording, variant: Variant) -> Iterator[Row]:
    """`head_linear.npz` and `head_dpt.npz`: taps to outputs, and what lies between."""
    head, taps, pose_token = _recorded_head(recording, variant)
    rows, columns = (int(last) + 1 for last in recording["pos"].reshape(-1, 2).max(axis=0))

    def run(head: PointHead, taps, pose_token, positions):
        world = head.world_tokens(taps[-1], pose_token, positions)
        inner = {"cross_tokens": world, "pose_raw": head.pose(pose_token)}
        if isinstance(head, DPTHead):
            inner |= _adapter_maps(head, taps, rows, columns)
        elif isinstance(head, LinearHead):
            inner["self_feat_raw"] = head.self_view(taps[-1])
        return inner, head(taps, pose_token, positions, rows, columns)

    inner, outputs = call(head, run, taps, pose_token, *arrays(recording, variant, "pos"))
    # of maps the first samples only
    inner = {name: x[: len(recording[name])] for name, x in inner.items() if name in recording}
    yield from recorded(recording, inner, HEAD)
    linear = isinstance(head, LinearHead)
    yield from judged_outputs(recording, "out/", outputs, HEAD, linear)


def _recorded_head(recording: Recording, variant: Variant):
    """Head, taps and pose token of a recording; the linear head has the last tap only."""
    prefix = "downstream_head."
    tensors = {
        name.removeprefix(prefix): x for name, x in settle(recording.under("param/")).items()
    }
    is_dpt = any(name.startswith("dpt_self.") for name in tensors)
    keys = [f"head_in/{index}" for index in range(4)] if is_dpt else ["tokens"]
    taps = arrays(recording, variant, *keys)
    last, decoder = taps[-1], taps[-1].shape[-1]
    if is_dpt:
        levels = [f"dpt_self.act_postprocess.{level}.0.weight" for level in range(4)]
        sizes = {
            "head": "dpt",
            "dpt_width": len(tensors["dpt_self.scratch.layer1_rn.weight"]),
            "dpt_last_width": len(tensors["dpt_self.head.2.weight"]),
            "dpt_layer_widths": tuple(len(tensors[name]) for name in levels),
        }
    else:
        pixels = len(tensors["proj.fc2.weight"]) // POINT_CHANNELS
        sizes = {"head": "linear", "patch_size": math.isqrt(pixels)}
    blocks = {name.split(".")[1] for name in tensors if name.startswith("final_transform.")}
    config = PartConfig(
        encoder_width=taps[0].shape[-1], encoder_heads=1, ray_encoder_heads=1,
        decoder_width=decoder, decoder_heads=recording.meta["num_heads"], state_heads=1,
        memory_heads=1, mlp_factor=len(tensors["pose_head.mlp.fc1.weight"]) / decoder,
        head_depth=len(blocks), **dtypes(variant), **sizes,
    )  # fmt: skip
    head = published_module(tensors, DPTHead if is_dpt else LinearHead, config)
    return head, (*taps[:-1], last[:, 1:]), last[:, 0]


def _adapter_maps(head: DPTHead, taps, rows: int, columns: int) -> dict[str, Any]:
    """Maps inside the adapter of the self view, channels first as recorded."""
    maps = head.self_view.reassemble(taps, rows, columns)
    paths = head.self_view.fuse(maps)
    named = {f"reassemble{index}": each for index, each in enumerate(maps)}
    named |= {f"path{4 - index}": each for index, each in enumerate(paths)}
    named["raw"] = head.self_view(taps, rows, columns)
    return {f"dpt_self/{name}": jnp.moveaxis(x, -1, 1) for name, x in named.items()}


def check_modalities(recording: Recording) -> Iterator[Row]:
    """`encode_modalities.npz`: both encoders, the initial state, tokens of mixed sequences."""
    yield from _check_encoders(recording)
    config = recorded_network(recording, VARIANTS["fp32"]).config
    grid = grid_positions(*(side // config.patch_size for side in recording["img"].shape[-2:]))
    state = state_positions(config.num_state_tokens, config.state_positions)
    made = {"img_pos": grid, "ray_pos": grid, "init_state_pos": state}
    for kind in ("1d", "2d"):
        for count in recording.under(f"state_pos_{kind}/"):
            made[f"state_pos_{kind}/{count}"] = state_positions(int(count), kind)
    yield from judged_positions(recording, made)


def judged_positions(recording: Recording, made: dict[str, Any]) -> Iterator[Row]:
    """No row where ours are None: tokens without positions have none to compare."""
    for name, ours in made.items():
        if name in recording and ours is not None:
            ours = np.broadcast_to(ours, recording[name].shape)
            yield recording.compare(name, ours, measure="exact")


@by_precision
def _check_encoders(recording: Recording, variant: Variant) -> Iterator[Row]:
    network = recorded_network(recording, variant)
    image, rays = unit_rgb(recording["img"], variant), *arrays(recording, variant, "ray_map")
    batch = recording["init_state"].shape[0] if "init_state" in recording else 1

    def run(network: TTT3R, image, rays):
        return {
            "img_tokens": network.encode_image(image),
            "ray_tokens": network.encode_rays(rays),
            "init_state": network.initial_tokens(batch),
        }

    yield from recorded(recording, call(network, run, image, rays))
    if "batch_mix/tokens" in recording:
        yield from recorded(recording, {"batch_mix/tokens": _mixed(recording, network, variant)})
    if "img_tokens_half_rope" in recording:
        halved = recorded_network(recording, variant, half_rope=True)
        tokens = call(halved, TTT3R.encode_image, image)
        yield from recorded(recording, {"img_tokens_half_rope": tokens}, HALF_ROPE)


def _mixed(recording: Recording, network: TTT3R, variant: Variant) -> np.ndarray:
    """Tokens of the batch behaviour where images or ray maps are missing."""
    image = unit_rgb(recording["batch_mix/img"], variant)
    (rays,) = arrays(recording, variant, "batch_mix/ray_map")
    shape = image.shape[:2]
    masks = [
        np.broadcast_to(recording[f"batch_mix/{kind}_mask"].reshape(shape[0], -1), shape)
        for kind in ("img", "ray")
    ]
    any_rays = jnp.full(shape[1], masks[1].any())

    def run(network: TTT3R, image, rays, image_mask, ray_mask):
        frame = Frame(image, ray_map=rays, image_mask=image_mask, ray_mask=ray_mask)
        return frame_tokens(network, with_masks(frame, network.config), "batch", any_rays)

    frames = zip(image, rays, *masks, strict=True)
    return np.stack([call(network, run, *map(jnp.asarray, frame)) for frame in frames])
