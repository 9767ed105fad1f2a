"""Cost of the TTT layer and the model: `python -m benchmarks.ttt_layer [PART ...] [--json]`.

Parts: `scaling` (time, memory and FLOPs of forward and forward+backward against the number of
views, at small width, for one TTT layer, a whole model and softmax attention over all tokens of
the same width), `published` (the same for one layer of the published width, and its FLOPs alone
at 960x536), `reference` (a 12.19 M model whose times in the published PyTorch implementation are
on record) and, only where asked for, `utilisation` (the published configuration at 960x536 in
bfloat16 on an accelerator, by part). FLOPs are those of the matrix products.

Above 64 MiB the C library's own work bends the line upwards; `--one-arena` takes it out.

Protocol: compiled once, one warm-up, median of wall seconds and of process CPU seconds over the
repeats (fewer where they take more than 10 s), and the least of each. Where one update takes all
views Newton-Schulz is a constant: it costs as much as about 70 tokens at the small width and 2600
at the published one, and bends the line where views are few and small; with an update for every
view (`TTT, per view`) it is part of the slope. So two fits are printed (`benchmarks.cost.fits`):
the plain exponent of cost over views, and `constant + slope * views^power`, whose power is that of
the part that grows.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from benchmarks.arguments import positive
from benchmarks.cost.fits import fit_growth
from benchmarks.cost.measure import measure
from benchmarks.cost.utilisation import utilisation_rows
from tttlrm_jax.config import ModelConfig, Plan
from tttlrm_jax.core.errors import InputError
from tttlrm_jax.core.host_memory import keep_freed_memory
from tttlrm_jax.core.types import Cameras, Views
from tttlrm_jax.models import build_model, merge_model, split_model
from tttlrm_jax.models.nn.attention import attend_in_blocks
from tttlrm_jax.models.nn.layers import linear
from tttlrm_jax.models.nn.ttt_layer import TTTLayer
from tttlrm_jax.training.watching.chips import chip_of
from tttlrm_jax.training.watching.flops import unrolled_flops
from tttlrm_jax.ttt import sequential_plan

VIEWS = (1, 2, 4, 8, 16, 32, 64)
SMALL = ModelConfig(
    d_model=128, num_layers=2, attention_head_dim=32, num_ttt_heads=4, ttt_inner_factor=2.0,
    sh_degree=1, newton_schulz_dtype="float32",
)  # fmt: skip
SMALL_SIZE = (128, 256)  # 512 tokens a view
PUBLISHED = ModelConfig(newton_schulz_dtype="float32")
PUBLISHED_TOKENS = 256  # a view; 128x128
LARGE_SIZE = (536, 960)  # the paper's views: 8040 tokens
REFERENCE = ModelConfig(d_model=256, num_layers=6)
REFERENCE_VIEWS, REFERENCE_SIDE = 8, 128
ATTENTION = "softmax attention"
PER_VIEW = "TTT, per view"  # an update for every view, as in a stream
MAX_LOGITS = 2**26  # of the softmax attention at a time: 256 MiB, in either direction
# Seconds of the published PyTorch implementation on an idle machine of two cores.
PYTORCH = {
    ("full", "forward"): 0.92,
    ("full", "forward+backward"): 2.98,
    ("sequential", "forward"): 0.97,
    ("sequential", "forward+backward"): 3.12,
}


def main(arguments: list[str] | None = None) -> int:
    """Measures the chosen parts and prints lines, or one JSON object; returns the exit code."""
    parts = {"scaling": scaling, "published": published, "reference": reference}
    everything = {**parts, "utilisation": utilisation}
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ttt_layer", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*everything, []], help="default: all but GPU")
    parser.add_argument("--views", nargs="+", type=positive, help="default: 1 to 64; GPU: 16 32 64")
    parser.add_argument("--repeats", type=positive, default=3)
    parser.add_argument("--one-arena", action="store_true",
                        help="keep large blocks of all threads (host_memory.py)")  # fmt: skip
    parser.add_argument("--without-attention", action="store_true",
                        help="leave softmax attention out, which takes longest")  # fmt: skip
    parser.add_argument("--peak-tflops", type=float, help="of the chip in bfloat16")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    options = parser.parse_args(arguments)
    if options.one_arena:
        keep_freed_memory(one_arena=True)
    results: dict[str, list] = {}
    try:
        for name in options.parts or parts:
            results[name] = []
            for row in everything[name](options):
                results[name].append(row)
                if not options.json:
                    print(_line(row), flush=True)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    fits = growths([row for rows in results.values() for row in rows])
    device = jax.devices()[0]
    if options.json:
        machine = f"{device.platform} {device.device_kind}, JAX {jax.__version__}"
        protocol = {"warm_up": 1, "repeats": options.repeats, "statistic": "median"}
        print(json.dumps({"machine": machine, "protocol": protocol, **results, "fits": fits}))
    else:
        for fit in fits:
            print("  ".join(f"{k} {v:.3f}" if isinstance(v, float) else str(v)
                            for k, v in fit.items()))  # fmt: skip
    return 0


# ---- what is measured ---------------------------------------------------------------------------


class SoftmaxAttention(nnx.Module):
    """Full softmax attention over all tokens, with the projections of a TTT layer."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        self.to_qkv = linear(config.d_model, 3 * config.d_model, config, rngs=rngs)
        self.c_proj = linear(config.d_model, config.d_model, config, rngs=rngs)
        self.head_dim = config.attention_head_dim
        self.compute_dtype = config.compute_dtype

    def __call__(self, x):
        qkv = self.to_qkv(x).reshape(*x.shape[:2], 3, -1, self.head_dim)
        query, key, value = (qkv[:, :, i] for i in range(3))
        out = attend_in_blocks(query, key, value, self.compute_dtype, max_logits=MAX_LOGITS)
        return self.c_proj(out.reshape(x.shape))


def layer_functions(config: ModelConfig, tokens_per_view: int) -> dict[str, tuple[Any, Callable]]:
    """`name -> (params, function(params, x))` of single layers over tokens `[1, token, d]`."""
    graph, params = nnx.split(TTTLayer(config, projection_std=0.02, rngs=nnx.Rngs(0)))
    attention_graph, attention = nnx.split(SoftmaxAttention(config, nnx.Rngs(0)))

    def ttt(chunk_tokens: int | None) -> Callable:
        def call(params, x):
            layer, count = nnx.merge(graph, params), x.shape[1]
            plan = sequential_plan(count, count, chunk_tokens or count)
            return layer(x, plan, layer.initial_state(1))[0]

        return call

    return {
        "TTT layer": (params, ttt(None)),
        PER_VIEW: (params, ttt(tokens_per_view)),
        ATTENTION: (attention, lambda p, x: nnx.merge(attention_graph, p)(x)),
    }


def model_function(config: ModelConfig, plan: Plan, chunk_views: int):
    """Parameters and `function(params, views) -> Gaussians` of the whole model."""
    graph, params = split_model(build_model(config))

    def call(params, views):
        return merge_model(graph, params)(views, plan=plan, chunk_views=chunk_views)

    return params, call


def draw_views(count: int, size: tuple[int, int]) -> Views:
    """Noise seen by cameras on a circle; `size` is height, width."""
    rng, (height, width) = np.random.default_rng(0), size
    angle = 2 * np.pi * np.arange(count) / count
    poses = np.tile(np.eye(4, dtype=np.float32), (1, count, 1, 1))
    poses[0, :, 0, 3], poses[0, :, 2, 3] = np.sin(angle), np.cos(angle)
    lens = np.tile(np.asarray([width, width, width / 2, height / 2], np.float32), (1, count, 1))
    image = np.asarray(rng.uniform(size=(1, count, height, width, 3)), np.float32)
    return Views(jnp.asarray(image), Cameras(jnp.asarray(poses), jnp.asarray(lens), height, width))


def scaling(options) -> Iterator[dict[str, Any]]:
    """Small width: one TTT layer, one attention layer, the whole model."""
    tokens = SMALL_SIZE[0] * SMALL_SIZE[1] // SMALL.patch_size**2
    functions = layer_functions(SMALL, tokens)
    model = model_function(SMALL, "full", 1)
    for views in options.views or VIEWS:
        x = _tokens(views * tokens, SMALL.d_model)
        for name, (params, function) in functions.items():
            if name == ATTENTION and options.without_attention:
                continue
            yield from _rows(name, "small", views, function, (params, x), options.repeats)
        params, function = model
        arguments = (params, draw_views(views, SMALL_SIZE))
        yield from _rows("model", "small", views, function, arguments, options.repeats)


def published(options) -> Iterator[dict[str, Any]]:
    """One layer of the published width; then its FLOPs at the paper's size, which are counted."""
    functions = layer_functions(PUBLISHED, PUBLISHED_TOKENS)
    for views in options.views or VIEWS:
        x = _tokens(views * PUBLISHED_TOKENS, PUBLISHED.d_model)
        for name, (params, function) in functions.items():
            dear = name == PER_VIEW  # Newton-Schulz for every 256 tokens
            if not dear and not (name == ATTENTION and options.without_attention):
                yield from _rows(name, "published", views, function, (params, x), options.repeats)
    tokens = LARGE_SIZE[0] * LARGE_SIZE[1] // PUBLISHED.patch_size**2
    functions = layer_functions(PUBLISHED, tokens)
    for views in options.views or VIEWS:
        x = jax.ShapeDtypeStruct((1, views * tokens, PUBLISHED.d_model), jnp.float32)
        for name, (params, function) in functions.items():
            for kind, run in _passes(function).items():
                yield {"what": name, "size": "960x536", "views": views, "pass": kind,
                       "gflop": unrolled_flops(run, (params, x)) / 1e9}  # fmt: skip


def reference(options) -> Iterator[dict[str, Any]]:
    """The configuration timed in PyTorch; `speedup` is its time over ours.

    Twice: storing every intermediate, as PyTorch does, and recomputing all but the products.
    """
    plans: tuple[tuple[Plan, int], ...] = (("full", REFERENCE_VIEWS), ("sequential", 4))
    views = draw_views(REFERENCE_VIEWS, (REFERENCE_SIDE, REFERENCE_SIDE))
    for plan, chunk_views in plans:
        for remat in ("none", "dots"):
            config = dataclasses.replace(REFERENCE, remat=remat)
            params, function = model_function(config, plan, chunk_views)
            count = sum(leaf.size for leaf in jax.tree.leaves(params))
            rows = _rows("model", plan, REFERENCE_VIEWS, function, (params, views), options.repeats)
            for row in rows:
                torch = PYTORCH[plan, row["pass"]]
                yield {**row, "remat": remat, "parameters": count, "pytorch_seconds": torch,
                       "speedup": torch / row["seconds"]}  # fmt: skip


def utilisation(options) -> Iterator[dict[str, Any]]:
    """The published configuration in bfloat16, by part. Raises InputError on a CPU."""
    device = jax.devices()[0]
    if device.platform == "cpu":
        raise InputError.of(
            "device", device.platform, "is no accelerator", "run this part on a GPU or TPU"
        )
    chip = chip_of(device.device_kind)
    peak = options.peak_tflops or (chip and chip.tflops)
    config = ModelConfig(compute_dtype="bfloat16")
    for views in options.views or (16, 32, 64):
        inputs = draw_views(views, LARGE_SIZE)
        yield from utilisation_rows(config, inputs, options.repeats, peak)


# ---- measuring ----------------------------------------------------------------------------------


def _tokens(count: int, width: int):
    return jnp.asarray(np.random.default_rng(0).standard_normal((1, count, width)), jnp.float32)


def _passes(function: Callable) -> dict[str, Callable]:
    def loss(*arguments):
        return sum(jnp.sum(leaf * leaf) for leaf in jax.tree.leaves(function(*arguments)))

    return {"forward": function, "forward+backward": jax.value_and_grad(loss)}


def _rows(name, size, views, function, arguments, repeats) -> Iterator[dict[str, Any]]:
    for kind, run in _passes(function).items():
        yield {"what": name, "size": size, "views": views, "pass": kind,
               **measure(run, arguments, repeats)}  # fmt: skip


def growths(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The fits of every curve with four points or more."""
    curves: dict[tuple, list] = {}
    for row in rows:
        if "gflop" in row and "part" not in row:
            curves.setdefault((row["what"], row["size"], row["pass"]), []).append(row)
    fits = []
    for (what, size, kind), curve in curves.items():
        for cost in ("seconds", "least_cpu_seconds", "gflop"):
            points = [(row["views"], row[cost]) for row in curve if cost in row]
            growth = fit_growth(*zip(*points, strict=True)) if points else None
            if growth is not None:
                fits.append({"what": what, "size": size, "pass": kind, "cost": cost,
                             **dataclasses.asdict(growth)})  # fmt: skip
    return fits


def _line(row: dict[str, Any]) -> str:
    if "part" in row:
        share = "" if row["utilisation"] is None else f", {100 * row['utilisation']:.1f} % of peak"
        return (
            f"{row['views']:>3} views  {row['part']:<18}{row['seconds']:9.4f} s "
            f"({100 * row['share']:5.1f} %), {row['tflop']:9.3f} TFLOP{share}"
        )
    start = f"{row['what']:<18}{row['size']:<11}{row['views']:>3} views  {row['pass']:<17}"
    if "seconds" not in row:
        return f"{start}{row['gflop']:12.2f} GFLOP, counted"
    against = ""
    if "pytorch_seconds" in row:
        against = (
            f", remat {row['remat']}, PyTorch {row['pytorch_seconds']:.2f} s: "
            f"{row['speedup']:.2f} times as fast"
        )
    return (
        f"{start}{row['seconds']:8.3f} s ({row['least_cpu_seconds']:.3f} s CPU at least), "
        f"{row['gflop']:9.2f} GFLOP, {row['mib_temporary']:.0f} MiB, "
        f"compile {row['compile_seconds']:.1f} s{against}"
    )


if __name__ == "__main__":
    sys.exit(main())
