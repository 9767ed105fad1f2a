"""Kinds of recordings of TTT3R's network, by file name."""

from collections.abc import Iterator
from pathlib import Path

from tttlrm_jax.convert import published_shapes, settle
from tttlrm_jax.models import abstract_model
from tttlrm_jax.parity.recording import load
from tttlrm_jax.parity.report import FileCheck, Row, row
from tttlrm_jax.parity.ttt3r.components import (
    check_decoder_block,
    check_encoder_block,
    check_modulation_block,
    check_patch_embed,
    check_pose_memory,
    check_postprocess,
    check_rope,
)
from tttlrm_jax.parity.ttt3r.network import check_head, check_modalities, recorded_config
from tttlrm_jax.parity.ttt3r.published import check_checkpoint_keys, check_published_run
from tttlrm_jax.parity.ttt3r.recurrence import check_run, check_state_update


def check_params(path: Path) -> Iterator[Row]:
    """`full_<head>_params.npz` holds inputs of the runs: its tensors must be all of a network."""
    recording = load(path)
    config = recorded_config(recording, "float32")
    tensors = settle(recording.under("param/"))
    expected = published_shapes(abstract_model(config))
    wrong = sum(expected.get(name) != tensor.shape for name, tensor in tensors.items())
    yield row(path, "names", len(tensors.keys() ^ expected.keys()), 0, "exact")
    yield row(path, "shapes", wrong, 0, "exact")


# The first pattern that fits a file's name decides.
KINDS: dict[str, FileCheck] = {
    "rope2d*.npz": check_rope,
    "encoder_block*.npz": check_encoder_block,
    "decoder_block*.npz": check_decoder_block,
    "modulation_block*.npz": check_modulation_block,
    "patch_embed*.npz": check_patch_embed,
    "encode_modalities*.npz": check_modalities,
    "pose_memory*.npz": check_pose_memory,
    "state_update*.npz": check_state_update,
    "head_*.npz": check_head,
    "heads_postprocess*.npz": check_postprocess,
    "full_*_params*.npz": check_params,
    "full_*.npz": check_run,
    "published_config_procedural*.npz": check_published_run,
    "checkpoint_keys.json": check_checkpoint_keys,
}
