"""Published parameter names and the paths of our parameters, one explicit table per module.

A published linear weight is `[out, in]` and acts as `x W^T`; ours is a kernel `[in, out]`. A
published block has its index in its name; ours are stacked on a leading layer axis.
"""

from tttlrm_jax.convert import ttt3r_names
from tttlrm_jax.convert.entries import Entry, entries, stacked_entries
from tttlrm_jax.models import LVSM, TTT3R, TTTLRM
from tttlrm_jax.models.nn.attention import WindowAttention
from tttlrm_jax.models.nn.block import Block
from tttlrm_jax.models.nn.layers import MLP
from tttlrm_jax.models.nn.point_heads import PointHead
from tttlrm_jax.models.nn.pose_memory import PoseMemory
from tttlrm_jax.models.nn.rope_blocks import BiasedMLP, DecoderBlock, EncoderBlock, ModulatedBlock
from tttlrm_jax.models.nn.ttt_layer import TTTLayer

ATTENTION_NAMES = {
    "to_qkv.weight": "to_qkv.kernel",
    "c_proj.weight": "c_proj.kernel",
    "q_norm.weight": "q_norm",
    "k_norm.weight": "k_norm",
}
TTT_NAMES = {
    "w0": "w0",
    "w1": "w1",
    "w2": "w2",
    "to_qkv.weight": "to_qkv.kernel",
    "c_proj.weight": "c_proj.kernel",
    "lr_fc.weight": "lr_fc.kernel",
    "lr_fc.bias": "lr_fc.bias",
    "o_norm.weight": "o_norm",
}
MLP_NAMES = {"c_fc.weight": "c_fc.kernel", "c_proj.weight": "c_proj.kernel"}


def _under(published_prefix: str, path_prefix: str, names: dict[str, str]) -> dict[str, str]:
    return {published_prefix + name: path_prefix + path for name, path in names.items()}


BLOCK_NAMES = {
    "module_list.0.ln.weight": "attention_norm.weight",
    **_under("module_list.0.f.", "attention.", ATTENTION_NAMES),
    "module_list.1.ln.weight": "ttt_norm.weight",
    **_under("module_list.1.f.", "ttt.", TTT_NAMES),
    "module_list.2.ln.weight": "mlp_norm.weight",
    **_under("module_list.2.f.", "mlp.", MLP_NAMES),
}
TTTLRM_NAMES = {
    "tokenizer.1.weight": "tokenizer.kernel",
    "input_layernorm.weight": "input_norm.weight",
    "decoder.0.weight": "decoder.norm.weight",
    "decoder.1.weight": "decoder.linear.kernel",
}
LVSM_NAMES = {
    "input_linear.weight": "tokenizer.kernel",
    "input_layernorm.weight": "input_norm.weight",
    "image_token_decoder.0.weight": "decoder_norm.weight",
    "image_token_decoder.1.weight": "decoder_linear.kernel",
}
MODULE_NAMES = {
    Block: BLOCK_NAMES,
    TTTLayer: TTT_NAMES,
    MLP: MLP_NAMES,
    BiasedMLP: ttt3r_names.MLP_NAMES,
    EncoderBlock: ttt3r_names.ENCODER_BLOCK_NAMES,
    DecoderBlock: ttt3r_names.DECODER_BLOCK_NAMES,
    ModulatedBlock: ttt3r_names.MODULATED_BLOCK_NAMES,
}

# Stripped from the front of published names, as often as they occur, in any order.
WRAPPER_PREFIXES = ("module.", "_orig_mod.", "_checkpoint_wrapped_module.")

# Frozen networks that a checkpoint may carry for its training losses; models do not hold them.
IGNORED_PREFIXES = {
    "perceptual_loss_module.": "VGG-19 of the perceptual loss",
    "depth_anything.": "monocular depth network of the depth loss",
}


def _model_entries(names: dict[str, str], num_layers: int) -> tuple[Entry, ...]:
    return (*entries(names), *stacked_entries("blocks", "blocks", BLOCK_NAMES, num_layers))


def table(model) -> tuple[Entry, ...]:
    """Entries of a model, or of one of its modules by itself."""
    if type(model) in MODULE_NAMES:
        return entries(MODULE_NAMES[type(model)])
    match model:
        case TTTLRM():
            return _model_entries(TTTLRM_NAMES, model.config.num_layers)
        case LVSM():
            return _model_entries(LVSM_NAMES, model.config.num_layers)
        case WindowAttention():
            names = entries(ATTENTION_NAMES)
            return names if model.qk_norm else tuple(e for e in names if "norm" not in e.path[0])
        case TTT3R():
            return ttt3r_names.network_entries(model)
        case PoseMemory():
            return ttt3r_names.memory_entries(model)
        case PointHead():
            return ttt3r_names.head_entries(model)
    raise TypeError(f"{type(model).__name__} has no table of published names")


def canonical_name(name: str) -> str:
    """Strips wrapper prefixes, wherever among the dotted parts a wrapper left them."""
    for prefix in WRAPPER_PREFIXES:
        while name.startswith(prefix):
            name = name[len(prefix) :]
        name = name.replace("." + prefix, ".")
    return name
