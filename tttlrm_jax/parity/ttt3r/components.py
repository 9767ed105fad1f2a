"""Parts of TTT3R's network against their recordings, in float32 and float64.

Recorded values are float32: against float64 the difference is the reference's own rounding.
"""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from flax import nnx

from tttlrm_jax.config import Dtype
from tttlrm_jax.config.ttt3r import TTT3RConfig
from tttlrm_jax.convert import params_from_published
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
    Rope,
    scores,
)
from tttlrm_jax.models.nn.tokens import patchify
from tttlrm_jax.parity.recording import Recording, load, quick_jit
from tttlrm_jax.parity.report import Row, compare

COMPONENT = 1e-5  # |a - b| / (1 + |b|): float32 rounding over one block
FLOAT32_EPS = float(np.finfo(np.float32).eps)
HALF_ROPE = 5e-4  # rounding to float16 may flip where float32 rounding differs
MEASURE = "1+abs"
DTYPES: tuple[Dtype, ...] = ("float32", "float64")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PartConfig(TTT3RConfig):
    """Sizes of a part alone: those of the rest of a network need not go with them."""

    def __post_init__(self):
        """Nothing is checked: a part that does not fit its tensors says so itself."""


def dtypes_config(dtype: Dtype) -> TTT3RConfig:
    return TTT3RConfig(compute_dtype=dtype, param_dtype=dtype)


def recorded_module(
    make: Callable[[nnx.Rngs], nnx.Module], tensors: dict[str, np.ndarray]
) -> nnx.Module:
    """The module with recorded parameters."""
    return params_from_published(tensors, nnx.eval_shape(lambda: make(nnx.Rngs(0))))


def call(module: nnx.Module, function: Callable, *arguments):
    """`function(module, *arguments)`, compiled."""
    graph, params = nnx.split(module)
    return quick_jit(lambda p, *a: function(nnx.merge(graph, p), *a))(params, *arguments)


def arrays(recording: Recording, dtype: Dtype, *keys: str) -> list:
    """Recorded arrays; numbers in `dtype`, integers as they are. Absent ones are None."""
    values = (recording.arrays.get(key) for key in keys)
    return [
        value if value is None else jnp.asarray(value, dtype if value.dtype.kind == "f" else None)
        for value in values
    ]


def judged(
    recording: Recording, quantity: str, actual, dtype: Dtype, tolerance: float = COMPONENT
) -> Iterator[Row]:
    """One row where the recording has that quantity, none elsewhere."""
    if quantity in recording:
        expected = recording[quantity]
        yield compare(recording.path, quantity, actual, expected, tolerance, MEASURE).about(dtype)


def _block(kind: type, recording: Recording, dtype: Dtype, half: bool = False) -> nnx.Module:
    meta = recording.meta
    rope = Rope(meta.get("rope", TTT3RConfig().rope_base), half)
    factor = meta.get("mlp_ratio", TTT3RConfig().mlp_factor)
    return recorded_module(
        lambda rngs: kind(
            recording["x"].shape[-1], meta["num_heads"], factor, rope, dtypes_config(dtype), rngs
        ),
        recording.under("param/"),
    )  # fmt: skip


def check_rope(path: Path) -> Iterator[Row]:
    """`rope2d.npz`: rotated tokens by head width, at any integer position."""
    recording = load(path)
    base = recording.meta.get("freq", TTT3RConfig().rope_base)
    for case in recording.cases("/tokens"):
        for key in recording.under(f"{case}/output"):
            kind = "_nonneg" if "nonneg" in key else ""
            for dtype in DTYPES:
                tokens, positions = arrays(
                    recording, dtype, f"{case}/tokens", f"{case}/positions{kind}"
                )
                turned = quick_jit(apply_rope, static_argnums=2)(
                    jnp.swapaxes(tokens, 1, 2), positions, base
                )
                # angles are float32: their rounding grows with the position
                angle = FLOAT32_EPS * np.abs(recording[f"{case}/positions{kind}"]).max()
                yield from judged(
                    recording, f"{case}/output{key}", jnp.swapaxes(turned, 1, 2), dtype,
                    max(COMPONENT, 2 * angle),
                )  # fmt: skip


def check_encoder_block(path: Path) -> Iterator[Row]:
    """`encoder_block.npz`: the block, its attention alone, and rounded to float16 around RoPE."""
    recording = load(path)

    def run(block: EncoderBlock, x, positions):
        normed = block.attention_norm(x)
        query, key, _ = block.attention.rotated(normed, positions)
        return block(x, positions), block.attention(normed, positions), scores(query, key)

    for dtype in DTYPES:
        x, positions = arrays(recording, dtype, "x", "xpos")
        outputs = call(_block(EncoderBlock, recording, dtype), run, x, positions)
        names = ("out", "self_attn_out", "self_attn_logits")
        for name, actual in zip(names, outputs, strict=True):
            yield from judged(recording, name, actual, dtype)
        if "out_half_rope" in recording:
            halved = _block(EncoderBlock, recording, dtype, half=True)
            out = call(halved, lambda block, *a: block(*a), x, positions)
            yield from judged(recording, "out_half_rope", out, dtype, HALF_ROPE)


def check_decoder_block(path: Path) -> Iterator[Row]:
    """`decoder_block*.npz`: the block and both kinds of scores, with x and y swapped as well."""
    recording = load(path)

    def run(block: DecoderBlock, x, y, x_positions, y_positions):
        query, key, _ = block.attention.rotated(block.attention_norm(x), x_positions)
        out, alignment = block(x, y, x_positions, y_positions)
        cross = block.cross_scores(x, y, x_positions, y_positions)
        return out, scores(query, key), cross, alignment

    for dtype in DTYPES:
        x, y, *positions = arrays(recording, dtype, "x", "y", "xpos", "ypos")
        block = _block(DecoderBlock, recording, dtype)
        for prefix, arguments in {
            "": (x, y, *positions),
            "swap/": (y, x, *positions[::-1]),
        }.items():
            if prefix + "out" not in recording:
                continue
            out, own, cross, alignment = call(block, run, *arguments)
            yield from judged(recording, f"{prefix}out", out, dtype)
            yield from judged(recording, f"{prefix}out_fused_sdpa", out, dtype)
            yield from judged(recording, f"{prefix}self_attn_logits", own, dtype)
            yield from judged(recording, f"{prefix}cross_attn_logits", cross, dtype)
            if f"{prefix}cross_attn_logits" in recording:
                mean = recording[f"{prefix}cross_attn_logits"].mean(axis=-1)
                name = f"{prefix}cross_attn_logits, mean {dtype}"
                yield compare(path, name, alignment, mean, COMPONENT, MEASURE)


def check_modulation_block(path: Path) -> Iterator[Row]:
    """`modulation_block.npz`: the block and its first norm."""
    recording = load(path)

    def run(block: ModulatedBlock, x, condition, positions):
        return block(x, condition, positions), block.attention_norm(x, condition)

    for dtype in DTYPES:
        block = _block(ModulatedBlock, recording, dtype)
        out, normed = call(block, run, *arrays(recording, dtype, "x", "mod", "xpos"))
        yield from judged(recording, "out", out, dtype)
        yield from judged(recording, "norm1_out", normed, dtype)


def check_patch_embed(path: Path) -> Iterator[Row]:
    """`patch_embed.npz`: non-overlapping convolutions of images and of ray maps."""
    recording = load(path)
    patch = recording.meta.get("patch", TTT3RConfig().patch_size)
    for case in recording.cases("/input"):
        for dtype in DTYPES:
            (pixels,) = arrays(recording, dtype, f"{case}/input")
            weight = recording[f"param/{case}.proj.weight"].astype(dtype)
            kernel = jnp.asarray(patch_layout(weight.shape[1]).to_ours(weight))
            bias = jnp.asarray(recording[f"param/{case}.proj.bias"].astype(dtype))
            patches = patchify(jnp.moveaxis(pixels, 1, -1), patch)
            product = jnp.matmul(patches, kernel, precision=matmul_precision(dtype))
            yield from judged(recording, f"{case}/tokens", product + bias[None, None], dtype)
        rows, columns = (side // patch for side in recording[f"{case}/input"].shape[2:])
        positions = np.broadcast_to(grid_positions(rows, columns), recording[f"{case}/pos"].shape)
        yield compare(path, f"{case}/pos", positions, recording[f"{case}/pos"], 0, "exact")


def check_pose_memory(path: Path) -> Iterator[Row]:
    """`pose_memory.npz`: write, read twice, write what was read."""
    recording, default = load(path), TTT3RConfig()
    meta, tensors = recording.meta, recording.under("param/")
    depth = len({name.split(".")[1] for name in tensors if name.startswith("write_blocks.")})

    def run(memory: PoseMemory, slots, key, value, query):
        written = memory.write(slots, key, value)
        read = memory.read(query, written)
        initial = memory.initial(slots.shape[0])
        again = memory.write(written, query, read)
        return initial, written, memory.read(query, slots), read, again

    for dtype in DTYPES:
        config = PartConfig(
            encoder_width=recording["feat_k_1"].shape[-1],
            decoder_width=recording["feat_v_1"].shape[-1],
            memory_heads=meta["num_heads"], memory_slots=recording["mem0"].shape[1],
            memory_depth=depth, mlp_factor=meta.get("mlp_ratio", default.mlp_factor),
            compute_dtype=dtype, param_dtype=dtype,
        )  # fmt: skip
        memory = recorded_module(lambda rngs, config=config: PoseMemory(config, rngs=rngs), tensors)
        inputs = arrays(recording, dtype, "mem0", "feat_k_1", "feat_v_1", "query_2")
        outputs = call(memory, run, *inputs)
        names = ("mem0", "mem1", "inquire_mem0", "inquire_mem1", "mem2")
        for name, actual in zip(names, outputs, strict=True):
            yield from judged(recording, name, actual, dtype)


def check_postprocess(path: Path) -> Iterator[Row]:
    """`heads_postprocess.npz`: pose MLP and activations, degenerate inputs included."""
    recording = load(path)
    width, hidden = recording["param/mlp.fc1.weight"].shape[::-1]

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

    for dtype in DTYPES:
        config = dtypes_config(dtype)
        mlp = recorded_module(
            lambda rngs, config=config: BiasedMLP(width, hidden, POSE_CHANNELS, config, rngs),
            {name.removeprefix("mlp."): x for name, x in recording.under("param/").items()},
        )
        inputs = arrays(recording, dtype, "x", "dense_raw_chw", "rgb_raw_chw", "pose_raw2")
        for name, actual in call(mlp, run, *inputs).items():
            yield from judged(recording, name, actual, dtype)
    matrix = matrix_from_encoding(recording["camera_pose"])
    yield from judged(recording, "c2w", matrix, "float64")
    back = encoding_from_matrix(recording["c2w"])
    yield from judged(recording, "back_to_encoding", back, "float64")
