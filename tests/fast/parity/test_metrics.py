"""PSNR and SSIM against the recorded reference values (goldens/tttlrm/losses.npz)."""

import jax
import numpy as np
import pytest

from tttlrm_jax.core.arrays import on_device
from tttlrm_jax.metrics import images as metrics

# Recorded float32 values deviate from the recorded float64 ones by at most 2e-7 (SSIM) and 2e-6 dB.
FLOAT32 = {"psnr": 1e-5, "ssim": 1e-6}
FLOAT64 = {"psnr": 1e-11, "ssim": 1e-12}


@pytest.mark.parametrize("name", ["psnr", "ssim"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_recorded(shared, name, dtype):
    recording = np.load(shared / "goldens" / "tttlrm" / "losses.npz")
    suffix, limits = ("", FLOAT32) if dtype == "float32" else ("_fp64", FLOAT64)
    with jax.enable_x64(dtype == "float64"):
        image, target = (
            on_device(np.moveaxis(recording[f"metrics/{key}"], 1, -1), dtype)
            for key in ("predict", "target")
        )
        actual = jax.jit(getattr(metrics, name))(image, target)
        assert actual.dtype == dtype
    np.testing.assert_allclose(
        np.asarray(actual), recording[f"metrics/{name}{suffix}"], rtol=0, atol=limits[name]
    )
