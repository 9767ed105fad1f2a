"""Kinds of recordings of tttLRM and of the LaCT view-synthesis model, by file name."""

from tttlrm_jax.parity.lvsm.suite import check_lvsm, check_lvsm_gradients
from tttlrm_jax.parity.report import FileCheck
from tttlrm_jax.parity.tttlrm.files import check_checkpoint_keys, check_manifest
from tttlrm_jax.parity.tttlrm.layers import check_block, check_mlp, check_window_attention
from tttlrm_jax.parity.tttlrm.losses import check_losses, check_perceptual_loss
from tttlrm_jax.parity.tttlrm.models import (
    check_cotangents,
    check_model_gradients,
    check_model_inputs,
    check_model_outputs,
)
from tttlrm_jax.parity.tttlrm.ttt import (
    check_fast_weight_update,
    check_newton_schulz,
    check_ttt_layer,
)

# The first pattern that fits a file's name decides.
KINDS: dict[str, FileCheck] = {
    "newton_schulz.npz": check_newton_schulz,
    "fast_weight_update_*.npz": check_fast_weight_update,
    "ttt_layer.npz": check_ttt_layer,
    "lact_ttt_layer.npz": check_ttt_layer,
    "window_attention.npz": check_window_attention,
    "mlp.npz": check_mlp,
    "block.npz": check_block,
    "model_*_cotangents.npz": check_cotangents,
    "model_*_full_grads_*.npz": check_model_gradients,
    "model_*_ar_grads_*.npz": check_model_gradients,
    "model_*_full_*.npz": check_model_outputs,
    "model_*_ar_*.npz": check_model_outputs,
    "model_*.npz": check_model_inputs,
    "lvsm_forward.npz": check_lvsm,
    "lvsm_forward_grads.npz": check_lvsm_gradients,
    "losses.npz": check_losses,
    "perceptual_loss.npz": check_perceptual_loss,
    "checkpoint_keys.json": check_checkpoint_keys,
    "manifest.json": check_manifest,
}
