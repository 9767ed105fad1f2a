"""The commands of the benchmarks at tiny sizes: they run, count right, refuse senseless options."""

import json
import math

import jax
import jax.numpy as jnp
import pytest

from benchmarks import products, rasterize, streaming, ttt3r_stream, ttt_layer
from tttlrm_jax.config import ModelConfig, RuleConfig
from tttlrm_jax.models import abstract_model, split_model
from tttlrm_jax.training.watching.flops import unrolled_flops

CONFIG = ModelConfig(
    d_model=12, num_layers=1, attention_head_dim=6, num_ttt_heads=2, ttt_inner_factor=2.0,
    rule=RuleConfig.of("muon", steps=5), newton_schulz_dtype="float32",
)  # fmt: skip


def test_flops_of_softmax_attention_by_hand():
    tokens, width = 10, CONFIG.d_model
    params, function = ttt_layer.layer_functions(CONFIG, tokens)["softmax attention"]
    x = jax.ShapeDtypeStruct((1, tokens, width), jnp.float32)
    by_hand = 2 * tokens * width * 4 * width + 4 * tokens**2 * width
    assert unrolled_flops(function, (params, x)) == by_hand


@pytest.mark.parametrize("chunks", [1, 5])
def test_flops_of_the_ttt_layer_by_hand(chunks):
    """Projections, read and gradient of every token; Newton-Schulz once per chunk, loop or not."""
    tokens, width = 10 * chunks, CONFIG.d_model
    d_head = width // CONFIG.num_ttt_heads
    d_hid = int(d_head * CONFIG.ttt_inner_factor)
    params, function = ttt_layer.layer_functions(CONFIG, 10)[ttt_layer.PER_VIEW]
    projections = 2 * tokens * width * (4 * width + 3 * CONFIG.num_ttt_heads)
    products = (3 + 3 + 3) * 2 * tokens * width * d_hid  # read; hidden units; outer products
    iteration = 2 * (2 * d_head**2 * d_hid + d_head**3)  # X X^T, its square, the polynomial times X
    newton_schulz = (
        chunks * 3 * CONFIG.num_ttt_heads * dict(CONFIG.rule.options)["steps"] * iteration
    )
    x = jax.ShapeDtypeStruct((1, tokens, width), jnp.float32)
    counted = unrolled_flops(function, (params, x))
    assert counted == projections + products + newton_schulz


def test_the_reference_configuration_is_that_of_the_pytorch_times():
    _, params = split_model(abstract_model(ttt_layer.REFERENCE))
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
    assert count == pytest.approx(12.19e6, abs=0.005e6)
    config = ttt_layer.REFERENCE
    assert (config.d_model, config.num_layers, config.patch_size) == (256, 6, 8)
    assert (config.ttt_inner_factor, config.mlp_factor, config.attention_head_dim) == (4, 4, 64)
    assert (config.sh_degree, config.newton_schulz_dtype) == (3, "bfloat16")
    assert (ttt_layer.REFERENCE_VIEWS, ttt_layer.REFERENCE_SIDE) == (8, 128)


def test_streaming_runs(capsys):
    streaming.main(["--chunks", "1", "3", "--repeats", "1", "--json"])
    result = json.loads(capsys.readouterr().out)
    assert [row["chunks"] for row in result["rows"]] == [1, 3, 1, 3]
    assert result["growth"]["live bytes alive"] == pytest.approx(1, abs=0.1)


def test_products_run(capsys):
    products.main(["--shapes", "2x5x4x3", "--repeats", "1", "--json"])
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [(row["pass"], row["way"]) for row in rows] == [
        (kind, way) for kind in ("forward", "backward") for way in ("widened", "native", "einsum")
    ]
    # products of bfloat16 are exact in float32; the order of four summands is left
    assert all(row["off"] <= 1e-6 for row in rows if row["way"] == "native")


def test_rasterize_runs(capsys):
    rasterize.main(["--sizes", "24x16", "--gaussians", "7", "--repeats", "1", "--json"])
    result = json.loads(capsys.readouterr().out)
    (row,) = result["results"]
    assert (row["width"], row["height"], row["gaussians"]) == (24, 16, 7)
    assert row["intersections"]["ellipse"] > 0
    for name in ("forward", "forward_backward"):
        assert row[name]["seconds_per_view"] > 0


def test_ttt_layer_scaling_runs(capsys, monkeypatch):
    monkeypatch.setattr(ttt_layer, "SMALL_SIZE", (32, 64))
    assert ttt_layer.main(["scaling", "--views", "1", "2", "--repeats", "1", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["scaling"]
    flops = {(r["what"], r["views"], r["pass"]): r["gflop"] for r in rows}
    for kind in ("forward", "forward+backward"):
        ratio = flops[ttt_layer.PER_VIEW, 2, kind] / flops[ttt_layer.PER_VIEW, 1, kind]
        assert ratio == pytest.approx(2, rel=0.02)


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        (rasterize, ["--sizes", "0x5"]),
        (rasterize, ["--views", "0"]),
        (streaming, ["--chunks", "0"]),
        (ttt_layer, ["scaling", "--views", "0"]),
        (ttt_layer, ["scaling", "--repeats", "none"]),
        (ttt3r_stream, ["--frames", "5"]),
    ],
)
def test_senseless_options_are_refused(command, arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        command.main(arguments)
    assert stopped.value.code == 2
    assert arguments[-1] in capsys.readouterr().err
