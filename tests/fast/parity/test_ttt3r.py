"""TTT3R's network against its recordings; the slower half runs after the default suite.

The command `python -m tttlrm_jax.parity` runs all files.
"""

import jax
import pytest

from tttlrm_jax.parity.suites import collect

FILES = (
    "rope2d.npz",
    "encoder_block.npz",
    "decoder_block.npz",
    "modulation_block.npz",
    "patch_embed.npz",
    "pose_memory.npz",
    "heads_postprocess.npz",
    "state_update.npz",
    "checkpoint_keys.json",
    "full_dpt_params.npz",
    "full_linear_streaming_ttt3r_reset.npz",
)
EXTENDED = (
    "full_linear_batch_cut3r_b2.npz",
    "decoder_block_norope.npz",
    "encode_modalities.npz",
    "head_linear.npz",
    "head_dpt.npz",
    "full_linear_batch_raymap.npz",
    "full_linear_batch_ttt3r_reset.npz",
    "full_linear_streaming_cut3r.npz",
    "full_linear_streaming_cut3r_reset.npz",
    "full_linear_streaming_raymap.npz",
    "full_linear_streaming_ttt3r.npz",
    "full_linear_streaming_ttt3r_halfrope.npz",
    "full_linear_streaming_ttt3r_noupdate.npz",
    "full_dpt_streaming_cut3r.npz",
    "full_dpt_streaming_ttt3r_reset.npz",
    "published_config_procedural.npz",
)


@pytest.mark.parametrize(
    "name", [*FILES, *(pytest.param(name, marks=pytest.mark.extended) for name in EXTENDED)]
)
def test_recorded(shared, name):
    with jax.enable_x64(True):
        (found,), _ = collect(shared / "goldens" / "ttt3r", name)
        rows = found.rows()
    assert rows
    assert not [row.line() for row in rows if not row.ok]
