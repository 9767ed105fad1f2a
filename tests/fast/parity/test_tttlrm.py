"""tttLRM and LVSM against their recordings: one file of every kind, in every precision.

Where a file of a kind is quick, it is in the default suite; those that compile much are extended.
The command `python -m tttlrm_jax.parity` runs all files.
"""

import jax
import pytest

from tttlrm_jax.parity.suites import collect

FILES = (
    "window_attention.npz",
    "model_sh3.npz",
    "model_virt_full_bf16.npz",
    "model_sh0_cotangents.npz",
    "losses.npz",
    "perceptual_loss.npz",
    "checkpoint_keys.json",
    "manifest.json",
)
EXTENDED = (
    "newton_schulz.npz",  # these two by default in test_golden.py
    "fast_weight_update_fp64.npz",
    "fast_weight_update_bf16.npz",
    "lact_ttt_layer.npz",
    "block.npz",
    "model_sh3_ar_fp32.npz",
    "model_sh0_full_fp64.npz",
    "model_virt_ar_grads_fp64.npz",
    "lvsm_forward.npz",
    "lvsm_forward_grads.npz",
    "model_virt_ar_fp64.npz",
)


@pytest.mark.parametrize(
    "name", [*FILES, *(pytest.param(name, marks=pytest.mark.extended) for name in EXTENDED)]
)
def test_recorded(shared, name):
    with jax.enable_x64(True):
        (found,), _ = collect(shared / "goldens" / "tttlrm", name)
        rows = found.rows()
    assert rows
    assert not [row.line() for row in rows if not row.ok]
