"""What `python -m benchmarks.ttt_layer` concludes: fits of growth, and utilisation by part."""

import numpy as np

from benchmarks.cost.fits import fit_growth
from benchmarks.cost.utilisation import WITHIN, utilisation_rows
from benchmarks.ttt_layer import draw_views, main
from tttlrm_jax.config import ModelConfig

VIEWS = np.asarray([1, 2, 4, 8, 16, 32, 64])


def test_a_constant_is_told_from_growth():
    growth = fit_growth(VIEWS, 30 + 3.0 * VIEWS)
    assert growth is not None
    assert growth.exponent < 0.6  # the plain exponent is bent by the constant
    np.testing.assert_allclose(growth.power, 1, atol=0.01)
    np.testing.assert_allclose(growth.constant_views, 10, rtol=1e-6)
    assert growth.off_line < 1e-9


def test_a_parabola_is_no_line():
    growth = fit_growth(VIEWS, 5 + 0.5 * VIEWS**2)
    assert growth is not None
    np.testing.assert_allclose(growth.power, 2, atol=0.01)
    assert growth.off_line > 0.3
    assert fit_growth([1, 2, 4], [1, 2, 4]) is None


def test_utilisation_by_part():
    config = ModelConfig(
        d_model=8, num_layers=2, patch_size=4, attention_head_dim=4, ttt_inner_factor=1.0,
        mlp_factor=1.0, sh_degree=0, compute_dtype="bfloat16",
    )  # fmt: skip
    rows = {r["part"]: r for r in utilisation_rows(config, draw_views(2, (8, 12)), 1, 1e-3)}
    whole = rows.pop("whole")
    assert whole["share"] == 1
    np.testing.assert_allclose(
        whole["utilisation"], whole["tflop"] / whole["seconds"] / 1e-3, rtol=1e-6
    )
    within = rows.pop(WITHIN)
    assert within["tflop"] < rows["TTT layer"]["tflop"]
    parts = sum(row["tflop"] for row in rows.values())
    np.testing.assert_allclose(parts, whole["tflop"], rtol=1e-6)  # every product is in one part
    assert rows["other"]["tflop"] < 0.2 * whole["tflop"]


def test_utilisation_needs_an_accelerator(capsys):
    assert main(["utilisation"]) == 2
    assert "accelerator" in capsys.readouterr().err
