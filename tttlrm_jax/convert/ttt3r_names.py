"""Published names of CUT3R's network (`cut3r_512_dpt_4_64`, its 224 px sibling) and our paths."""

from tttlrm_jax.convert.entries import Entry, entries, stacked_entries, under
from tttlrm_jax.convert.layouts import CONVOLUTION, POINTWISE, Layout, enlargement, patches
from tttlrm_jax.models import TTT3R
from tttlrm_jax.models.nn.dpt import SCALES
from tttlrm_jax.models.nn.point_heads import DPTHead, PointHead
from tttlrm_jax.models.nn.pose_memory import PoseMemory
from tttlrm_jax.models.ttt3r_network import RAY_CHANNELS, RGB_CHANNELS


def _linear(published: str, path: str, weight: str = "kernel") -> dict[str, str]:
    return {f"{published}.weight": f"{path}.{weight}", f"{published}.bias": f"{path}.bias"}


def _norm(published: str, path: str) -> dict[str, str]:
    return _linear(published, path, "weight")


MLP_NAMES = {**_linear("fc1", "fc1"), **_linear("fc2", "fc2")}


def _mlp(published: str, path: str) -> dict[str, str]:
    return {f"{published}.{name}": f"{path}.{inner}" for name, inner in MLP_NAMES.items()}


_SELF_ATTENTION_AND_MLP = {
    **_linear("attn.qkv", "attention.qkv"),
    **_linear("attn.proj", "attention.proj"),
    **_mlp("mlp", "mlp"),
}
ENCODER_BLOCK_NAMES = {
    **_norm("norm1", "attention_norm"),
    **_norm("norm2", "mlp_norm"),
    **_SELF_ATTENTION_AND_MLP,
}
DECODER_BLOCK_NAMES = {
    **_norm("norm1", "attention_norm"),
    **_norm("norm2", "cross_norm"),
    **_norm("norm3", "mlp_norm"),
    **_norm("norm_y", "other_norm"),
    **_linear("cross_attn.projq", "cross_attention.query"),
    **_linear("cross_attn.projk", "cross_attention.key"),
    **_linear("cross_attn.projv", "cross_attention.value"),
    **_linear("cross_attn.proj", "cross_attention.proj"),
    **_SELF_ATTENTION_AND_MLP,
}
MODULATED_BLOCK_NAMES = {
    **_norm("norm1.norm", "attention_norm.norm"),
    **_linear("norm1.mlp.1", "attention_norm.modulation"),
    **_norm("norm2.norm", "mlp_norm.norm"),
    **_linear("norm2.mlp.1", "mlp_norm.modulation"),
    **_SELF_ATTENTION_AND_MLP,
}
NETWORK_NAMES = {
    "pose_token": "pose_token",
    "masked_img_token": "missing_image",
    "masked_ray_map_token": "missing_rays",
    "register_tokens.weight": "state_tokens",
    **_norm("enc_norm", "image_encoder_norm"),
    **_norm("enc_norm_ray_map", "ray_encoder_norm"),
    **_norm("dec_norm", "image_norm"),
    **_norm("dec_norm_state", "state_norm"),
    **_linear("decoder_embed", "image_projection"),
    **_linear("decoder_embed_state", "state_projection"),
}
MEMORY_NAMES = {
    "masked_token": "masked_token",
    "mem": "slots",
    **_linear("proj_q", "key_projection"),
}
POSE_NAMES = _mlp("pose_head.mlp", "pose")
LINEAR_HEAD_NAMES = {
    **_mlp("proj", "self_view"),
    **_mlp("cross_proj", "world"),
    **_mlp("rgb_proj", "rgb"),
}
ADAPTERS = {"dpt_self": "self_view", "dpt_cross": "world", "dpt_rgb": "rgb"}

# Tensors under a second name: either name will do, and where both are there they must agree.
ALIASES = {
    f"downstream_head.{adapter}.scratch.layer_rn.{level}.weight":
        f"downstream_head.{adapter}.scratch.layer{level + 1}_rn.weight"
    for adapter in ADAPTERS
    for level in range(len(SCALES))
}  # fmt: skip

# Where a checkpoint lacks the first, the reference copies the second.
COPIED_PREFIX = ("dec_blocks_state.", "dec_blocks.")

# Leftovers that published files of this family may carry; nothing reads them.
IGNORED_PREFIXES = {
    "mask_token": "token of masked patches in the pretraining of the encoder",
    "prediction_head.": "pixel predictor of that pretraining",
    "enc_pos_embed": "table of positions, replaced by rotary ones",
    "dec_pos_embed": "the same for the decoder",
}


def network_entries(model: TTT3R) -> tuple[Entry, ...]:
    """Entries of the complete network."""
    config = model.config
    stacks = (
        ("enc_blocks", "image_encoder", ENCODER_BLOCK_NAMES, config.encoder_depth),
        ("enc_blocks_ray_map", "ray_encoder", ENCODER_BLOCK_NAMES, config.ray_encoder_depth),
        ("dec_blocks", "image_branch", DECODER_BLOCK_NAMES, config.decoder_depth),
        ("dec_blocks_state", "state_branch", DECODER_BLOCK_NAMES, config.decoder_depth),
    )
    return (
        *entries(NETWORK_NAMES),
        *_layer("patch_embed.proj", "image_patches", patches(RGB_CHANNELS)),
        *_layer("patch_embed_ray_map.proj", "ray_patches", patches(RAY_CHANNELS)),
        *(entry for stack in stacks for entry in stacked_entries(*stack)),
        *under("pose_retriever.", ("memory",), memory_entries(model.memory)),
        *under("downstream_head.", ("head",), head_entries(model.head)),
    )


def memory_entries(memory: PoseMemory) -> tuple[Entry, ...]:
    """Entries of the pose memory by itself."""
    stacks = (
        stacked_entries(name, name, DECODER_BLOCK_NAMES, memory.depth)
        for name in ("write_blocks", "read_blocks")
    )
    return (*entries(MEMORY_NAMES), *(entry for stack in stacks for entry in stack))


def head_entries(head: PointHead) -> tuple[Entry, ...]:
    """Entries of a head by itself."""
    shared = (
        *entries(POSE_NAMES),
        *stacked_entries("final_transform", "world_blocks", MODULATED_BLOCK_NAMES, head.depth),
    )
    if not isinstance(head, DPTHead):
        return (*shared, *entries(LINEAR_HEAD_NAMES))
    adapter = (
        *(entry for index in range(len(SCALES)) for entry in _level_entries(index)),
        *_layer("head.0", "head_conv", CONVOLUTION),
        *_layer("head.2", "last_conv", CONVOLUTION),
        *_layer("head.4", "out", POINTWISE),
    )
    adapters = (under(f"{name}.", (path,), adapter) for name, path in ADAPTERS.items())
    return (*shared, *(entry for each in adapters for entry in each))


def _level_entries(index: int) -> tuple[Entry, ...]:
    path, scale = f"level{index + 1}", SCALES[index]
    fusion, source = f"scratch.refinenet{index + 1}", f"act_postprocess.{index}"
    convolutions = {f"{fusion}.out_conv": f"{path}.fusion.out"}
    for number, unit in ((1, "skip_unit"), (2, "unit")):
        for conv in ("conv1", "conv2"):
            convolutions[f"{fusion}.resConfUnit{number}.{conv}"] = f"{path}.fusion.{unit}.{conv}"
    if scale < 1:
        convolutions[f"{source}.1"] = f"{path}.resize"
    enlarged = ()
    if scale > 1:
        weight = Entry(
            f"{source}.1.weight", (path, "resize", "spread", "kernel"),
            layout_override=enlargement(int(scale)),
        )  # fmt: skip
        enlarged = (weight, Entry(f"{source}.1.bias", (path, "resize", "bias")))
    return (
        *_layer(f"{source}.0", f"{path}.project", POINTWISE),
        *enlarged,
        Entry(
            f"scratch.layer{index + 1}_rn.weight", (path, "conv", "kernel"),
            layout_override=CONVOLUTION,
        ),
        *(e for name, to in convolutions.items() for e in _layer(name, to, CONVOLUTION)),
    )  # fmt: skip


def _layer(published: str, path: str, layout: Layout) -> tuple[Entry, Entry]:
    where = tuple(path.split("."))
    return (
        Entry(f"{published}.weight", (*where, "kernel"), layout_override=layout),
        Entry(f"{published}.bias", (*where, "bias")),
    )
