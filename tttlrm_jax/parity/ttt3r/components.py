"""Parts of TTT3R's network against their recordings, in float32 and float64.

Recorded values are float32: against float64 the difference is the reference's own rounding.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from tttlrm_jax.config.ttt3r import TTT3RConfig
from tttlrm_jax.convert.layouts import patches as patch_layout
from tttlrm_jax.core.geometry.poses import encoding_from_matrix, matrix_from_encoding
from tttlrm_jax.core.precision import matmul_precision
from tttlrm_jax.models.nn.point_heads import POSE_CHANNELS, decode_points, decode_pose, decode_rgb
from tttlrm_jax.models.nn.pose_memory import PoseMemory
from tttlrm_jax.models.nn.rope import apply_rope, grid_positions
from tttlrm_jax.models.nn.rope_blocks import (
    BiasedMLP,
    DecoderBlock,
    EncoderBlock,
    ModulatedBlock,
    scores,
)
from tttlrm_jax.models.nn.tokens import patchify
from tttlrm_jax.parity.modules import call, published_module
from tttlrm_jax.parity.recording import Recording, Variant, in_both_precisions, quick_jit
from tttlrm_jax.parity.report import Row

COMPONENT = 1e-5  # |a - b| / (1 + |b|): float32 rounding over one block
FLOAT32_EPS = float(np.finfo(np.float32).eps)
HALF_ROPE = 5e-4  # rounding to float16 may flip where float32 rounding differs

by_precision = in_both_precisions("{} {variant.dtype}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PartConfig(TTT3RConfig):
    """Sizes of a part alone: those of the rest of a network need not go with them."""

    def __post_init__(self):
        """Nothing is checked: a part that does not fit its tensors says so itself."""


def dtypes(variant: Variant) -> dict[str, Any]:
    """Fields of a configuration."""
    return {"compute_dtype": variant.dtype, "param_dtype": variant.dtype}


def arrays(recording: Recording, variant: Variant, *keys: str) -> list:
    """Recorded arrays; numbers in a precision, integers as they are. Absent ones are None."""
    values = (recording.arrays.get(key) for key in keys)
    return [
        x if x is None else np.asarray(x, variant.dtype if x.dtype.kind == "f" else None)
        for x in values
    ]


def recorded(
    recording: Recording, actual: Mapping[str, Any], tolerance: float = COMPONENT, prefix: str = ""
) -> Iterator[Row]:
    """Rows of those of our values that the recording holds."""
    return recording.compare_all(actual, tolerance, "1+abs", prefix, optional=True)


def _block(kind: type, recording: Recording, variant: Variant, **options) -> nnx.Module:
    meta, named = recording.meta, {"rope": "rope_base", "mlp_ratio": "mlp_factor"}
    given = {field: meta[key] for key, field in named.items() if key in meta}
    sizes = recording["x"].shape[-1], meta["num_heads"]
    config = PartConfig(**dtypes(variant), **given)
    return published_module(recording.under("param/"), kind, *sizes, config, **options)


@by_precision
def check_rope(recording: Recording, variant: Variant) -> Iterator[Row]:
    """`rope2d.npz`: rotated tokens by head width, at any integer position."""
    base = recording.meta.get("freq", TTT3RConfig().rope_base)
    for case in recording.cases("/tokens"):
        for key in recording.under(f"{case}/output"):
            kind = "_nonneg" if "nonneg" in key else ""
            keys = (f"{case}/tokens", f"{case}/positions{kind}")
            tokens, positions = arrays(recording, variant, *keys)
            turned = quick_jit(apply_rope, static_argnums=2)(
                jnp.swapaxes(tokens, 1, 2), positions, base
            )
            # angles are float32: their rounding grows with the position
            tolerance = max(COMPONENT, 2 * FLOAT32_EPS * np.abs(recording[keys[1]]).max())
            made = {f"{case}/output{key}": jnp.swapaxes(turned, 1, 2)}
            yield from recorded(recording, made, tolerance)


@by_precision
def check_encoder_block(recording: Recording, variant: Variant) -> Iterator[Row]:
    """`encoder_block.npz`: the block, its attention alone, and rounded to float16 around RoPE."""

    def run(block: EncoderBlock, x, positions):
        normed = block.attention_norm(x)
        query, key, _ = block.attention.rotated(normed, positions)
        return {
            "out": block(x, positions),
            "self_attn_out": block.attention(normed, positions),
            "self_attn_logits": scores(query, key),
        }

    given = arrays(recording, variant, "x", "xpos")
    yield from recorded(recording, call(_block(EncoderBlock, recording, variant), run, *given))
    if "out_half_rope" in recording:
        halved = _block(EncoderBlock, recording, variant, half_rope=True)
        out = call(halved, EncoderBlock.__call__, *given)
        yield from recorded(recording, {"out_half_rope": out}, HALF_ROPE)


@by_precision
def check_decoder_block(recording: Recording, variant: Variant) -> Iterator[Row]:
    """`decoder_block*.npz`: the block and both kinds of scores, with x and y swapped as well."""

    def run(block: DecoderBlock, x, y, x_positions, y_positions):
        query, key, _ = block.attention.rotated(block.attention_norm(x), x_positions)
        out, alignment = block(x, y, x_positions, y_positions)
        cross = block.cross_scores(x, y, x_positions, y_positions)
        return out, scores(query, key), cross, alignment

    x, y, *positions = arrays(recording, variant, "x", "y", "xpos", "ypos")
    block = _block(DecoderBlock, recording, variant)
    given = {"": (x, y, *positions), "swap/": (y, x, *positions[::-1])}
    for prefix, arguments in given.items():
        if prefix + "out" not in recording:
            continue
        out, own, cross, alignment = call(block, run, *arguments)
        made = {"out": out, "out_fused_sdpa": out}
        made |= {"self_attn_logits": own, "cross_attn_logits": cross}
        yield from recorded(recording, made, prefix=prefix)
        key = f"{prefix}cross_attn_logits"
        if key in recording:
            mean = recording[key].mean(axis=-1)
            yield recording.compare(f"{key}, mean", alignment, COMPONENT, "1+abs", mean)


@by_precision
def check_modulation_block(recording: Recording, variant: Variant) -> Iterator[Row]:
    """`modulation_block.npz`: the block and its first norm."""

    def run(block: ModulatedBlock, x, condition, positions):
        normed = block.attention_norm(x, condition)
        return {"out": block(x, condition, positions), "norm1_out": normed}

    block = _block(ModulatedBlock, recording, variant)
    given = arrays(recording, variant, "x", "mod", "xpos")
    yield from recorded(recording, call(block, run, *given))


def check_patch_embed(recording: Recording) -> Iterator[Row]:
    """`patch_embed.npz`: non-overlapping convolutions of images and of ray maps."""
    yield from _check_patches(recording)
    patch = _patch_size(recording)
    for case in recording.cases("/input"):
        rows, columns = (side // patch for side in recording[f"{case}/input"].shape[2:])
        positions = np.broadcast_to(grid_positions(rows, columns), recording[f"{case}/pos"].shape)
        yield recording.compare(f"{case}/pos", positions, measure="exact")


def _patch_size(recording: Recording) -> int:
    return recording.meta.get("patch", TTT3RConfig().patch_size)


@by_precision
def _check_patches(recording: Recording, variant: Variant) -> Iterator[Row]:
    for case in recording.cases("/input"):
        (pixels,) = arrays(recording, variant, f"{case}/input")
        weight, bias = (
            recording[f"param/{case}.proj.{name}"].astype(variant.dtype)
            for name in ("weight", "bias")
        )
        kernel = jnp.asarray(patch_layout(weight.shape[1]).to_ours(weight))
        patches = patchify(jnp.moveaxis(pixels, 1, -1), _patch_size(recording))
        product = jnp.matmul(patches, kernel, precision=matmul_precision(variant.dtype))
        yield from recorded(recording, {f"{case}/tokens": product + bias[None, None]})


@by_precision
def check_pose_memory(recording: Recording, variant: Variant) -> Iterator[Row]:
    """`pose_memory.npz`: write, read twice, write what was read."""
    meta, tensors = recording.meta, recording.under("param/")
    depth = len({name.split(".")[1] for name in tensors if name.startswith("write_blocks.")})
    config = PartConfig(
        encoder_width=recording["feat_k_1"].shape[-1],
        decoder_width=recording["feat_v_1"].shape[-1],
        memory_heads=meta["num_heads"], memory_slots=recording["mem0"].shape[1],
        memory_depth=depth, mlp_factor=meta.get("mlp_ratio", TTT3RConfig().mlp_factor),
        **dtypes(variant),
    )  # fmt: skip

    def run(memory: PoseMemory, slots, key, value, query):
        written = memory.write(slots, key, value)
        read = memory.read(query, written)
        return {
            "mem0": memory.initial(slots.shape[0]),
            "mem1": written,
            "inquire_mem0": memory.read(query, slots),
            "inquire_mem1": read,
            "mem2": memory.write(written, query, read),
        }

    memory = published_module(tensors, PoseMemory, config)
    given = arrays(recording, variant, "mem0", "feat_k_1", "feat_v_1", "query_2")
    yield from recorded(recording, call(memory, run, *given))


def check_postprocess(recording: Recording) -> Iterator[Row]:
    """`heads_postprocess.npz`: pose MLP and activations, degenerate inputs included."""
    yield from _check_activations(recording)
    made = {
        "c2w": matrix_from_encoding(recording["camera_pose"]),
        "back_to_encoding": encoding_from_matrix(recording["c2w"]),
    }
    yield from (each.named("{} float64") for each in recorded(recording, made))


@by_precision
def _check_activations(recording: Recording, variant: Variant) -> Iterator[Row]:
    def run(mlp: BiasedMLP, x, dense, colours, poses):
        raw = mlp(x)
        dense, colours = (jnp.moveaxis(each, 1, -1) for each in (dense, colours))
        points, confidence = decode_points(dense)
        in_front, same = decode_points(dense, in_front=True)
        return {
            "raw": raw,
            "camera_pose": decode_pose(raw),
            "camera_pose2": decode_pose(poses),
            "pts3d": points,
            "conf": confidence,
            "pts3d_posz": in_front,
            "conf_posz": same,
            "rgb": 2 * decode_rgb(colours) - 1,
        }

    width, hidden = recording["param/mlp.fc1.weight"].shape[::-1]
    sizes, config = (width, hidden, POSE_CHANNELS), TTT3RConfig(**dtypes(variant))
    mlp = published_module(recording.under("param/mlp."), BiasedMLP, *sizes, config)
    given = arrays(recording, variant, "x", "dense_raw_chw", "rgb_raw_chw", "pose_raw2")
    yield from recorded(recording, call(mlp, run, *given))
