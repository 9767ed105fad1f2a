"""Cost of the TTT layer and the model: `python -m benchmarks.ttt_layer [PART ...] [--json]`.

Parts: `scaling` (time and FLOPs of forward and forward+backward against the number of views, at
small width, for one TTT layer, a whole model and softmax attention over all tokens of the same
width), `published` (the same for one layer of the published width), `reference` (a 12.19 M model
whose times in the published PyTorch implementation are on record). FLOPs are those of the matrix
products.

Protocol: compiled once, one warm-up, median of wall seconds and of process CPU seconds over the
repeats. An exponent is the slope of log cost over log views; the fixed cost of
Newton-Schulz bends the line at few views, so it is fitted from `FIT_FROM` views on as well.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from tttlrm_jax.config import ModelConfig, Plan
from tttlrm_jax.models import build_model, merge_model, split_model
from tttlrm_jax.nn.layers import linear
from tttlrm_jax.nn.ttt_layer import TTTLayer
from tttlrm_jax.ttt import full_plan
from tttlrm_jax.types import Cameras, Views

FIT_FROM = 8
VIEWS = (1, 2, 4, 8, 16, 32, 64)
TOKENS_PER_VIEW = 64  # 64x64 pixels in patches of 8
SMALL = ModelConfig(
    d_model=128, num_layers=2, attention_head_dim=32, num_ttt_heads=4, ttt_inner_factor=2.0,
    sh_degree=1, newton_schulz_dtype="float32",
)  # fmt: skip
PUBLISHED = ModelConfig(newton_schulz_dtype="float32")
REFERENCE = ModelConfig(d_model=256, num_layers=6)
REFERENCE_VIEWS, REFERENCE_SIDE = 8, 128
# Seconds of the published PyTorch implementation on an idle machine of two cores.
PYTORCH = {
    ("full", "forward"): 0.92,
    ("full", "forward+backward"): 2.98,
    ("sequential", "forward"): 0.97,
    ("sequential", "forward+backward"): 3.12,
}


def main(arguments: list[str] | None = None) -> int:
    """Measures the chosen parts and prints lines, or one JSON object."""
    parts = {"scaling": scaling, "published": published, "reference": reference}
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ttt_layer", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*parts, []], help="default: all")
    parser.add_argument("--views", nargs="+", type=int, default=VIEWS)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    options = parser.parse_args(arguments)
    results: dict[str, list] = {}
    for name in options.parts or parts:
        results[name] = []
        for row in parts[name](options):
            results[name].append(row)
            if not options.json:
                print(_line(row), flush=True)
    fits = exponents([row for rows in results.values() for row in rows])
    device = jax.devices()[0]
    if options.json:
        machine = f"{device.platform} {device.device_kind}, JAX {jax.__version__}"
        protocol = {"warm_up": 1, "repeats": options.repeats, "statistic": "median"}
        print(json.dumps({"machine": machine, "protocol": protocol, **results, "exponents": fits}))
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

    def __call__(self, x):
        qkv = self.to_qkv(x).reshape(*x.shape[:2], 3, -1, self.head_dim)
        out = jax.nn.dot_product_attention(*(qkv[:, :, i] for i in range(3)))
        return self.c_proj(out.reshape(x.shape))


def layer_functions(config: ModelConfig, names: tuple[str, ...]) -> dict[str, tuple[Any, Callable]]:
    """`name -> (params, function(params, x))` of single layers over tokens `[1, token, d]`."""
    rngs = nnx.Rngs(0)
    modules = {
        "TTT layer": lambda: TTTLayer(config, projection_std=0.02, rngs=rngs),
        "softmax attention": lambda: SoftmaxAttention(config, rngs),
    }

    def call(graph, params, x):
        module = nnx.merge(graph, params)
        if isinstance(module, TTTLayer):
            return module(x, full_plan(x.shape[1], x.shape[1]), module.initial_state(1))[0]
        return module(x)

    made = {}
    for name in names:
        graph, params = nnx.split(modules[name]())
        made[name] = (params, lambda p, x, g=graph: call(g, p, x))
    return made


def model_function(config: ModelConfig, plan: Plan, chunk_views: int):
    """Parameters and `function(params, views) -> Gaussians` of the whole model."""
    graph, params = split_model(build_model(config))

    def call(params, views):
        return merge_model(graph, params)(views, plan=plan, chunk_views=chunk_views)

    return params, call


def draw_views(count: int, side: int) -> Views:
    """Noise seen by cameras on a circle."""
    rng = np.random.default_rng(0)
    angle = 2 * np.pi * np.arange(count) / count
    poses = np.tile(np.eye(4, dtype=np.float32), (1, count, 1, 1))
    poses[0, :, 0, 3], poses[0, :, 2, 3] = np.sin(angle), np.cos(angle)
    lens = np.tile(np.asarray([side, side, side / 2, side / 2], np.float32), (1, count, 1))
    image = np.asarray(rng.uniform(size=(1, count, side, side, 3)), np.float32)
    return Views(jnp.asarray(image), Cameras(jnp.asarray(poses), jnp.asarray(lens), side, side))


def scaling(options) -> Iterator[dict[str, Any]]:
    """Small width: one TTT layer, one attention layer, the whole model."""
    functions = layer_functions(SMALL, ("TTT layer", "softmax attention"))
    model = model_function(SMALL, "full", 1)
    side = int(TOKENS_PER_VIEW**0.5) * SMALL.patch_size
    for views in options.views:
        x = _tokens(views * TOKENS_PER_VIEW, SMALL.d_model)
        for name, (params, function) in functions.items():
            yield from _rows(name, "small", views, function, (params, x), options.repeats)
        params, function = model
        arguments = (params, draw_views(views, side))
        yield from _rows("model", "small", views, function, arguments, options.repeats)


def published(options) -> Iterator[dict[str, Any]]:
    """One layer of the published width, views of 64 tokens."""
    functions = layer_functions(PUBLISHED, ("TTT layer", "softmax attention"))
    for views in options.views:
        x = _tokens(views * TOKENS_PER_VIEW, PUBLISHED.d_model)
        for name, (params, function) in functions.items():
            yield from _rows(name, "published", views, function, (params, x), options.repeats)


def reference(options) -> Iterator[dict[str, Any]]:
    """The configuration timed in PyTorch; `speedup` is its time over ours."""
    plans: tuple[tuple[Plan, int], ...] = (("full", REFERENCE_VIEWS), ("sequential", 4))
    views = draw_views(REFERENCE_VIEWS, REFERENCE_SIDE)
    for plan, chunk_views in plans:
        params, function = model_function(REFERENCE, plan, chunk_views)
        count = sum(leaf.size for leaf in jax.tree.leaves(params))
        rows = _rows("model", plan, REFERENCE_VIEWS, function, (params, views), options.repeats)
        for row in rows:
            torch = PYTORCH[plan, row["pass"]]
            yield {**row, "parameters": count, "pytorch_seconds": torch,
                   "speedup": torch / row["seconds"]}  # fmt: skip


# ---- measuring ----------------------------------------------------------------------------------


def _tokens(count: int, width: int):
    return jnp.asarray(np.random.default_rng(0).standard_normal((1, count, width)), jnp.float32)


def _rows(name, size, views, function, arguments, repeats) -> Iterator[dict[str, Any]]:
    def loss(*arguments):
        return sum(jnp.sum(leaf * leaf) for leaf in jax.tree.leaves(function(*arguments)))

    for kind, run in (("forward", function), ("forward+backward", jax.value_and_grad(loss))):
        yield {"what": name, "size": size, "views": views, "pass": kind,
               **measure(run, arguments, repeats)}  # fmt: skip


def measure(function: Callable, arguments: tuple, repeats: int) -> dict[str, float]:
    """Seconds (wall, CPU, compiling) and compiled FLOPs; loop bodies count once per iteration."""
    start = time.perf_counter()
    compiled = jax.jit(function).lower(*arguments).compile()
    compile_seconds = time.perf_counter() - start
    jax.block_until_ready(compiled(*arguments))
    wall, busy = [], []
    for _ in range(repeats):
        begun = time.perf_counter(), time.process_time()
        jax.block_until_ready(compiled(*arguments))
        wall.append(time.perf_counter() - begun[0])
        busy.append(time.process_time() - begun[1])
    return {
        "seconds": statistics.median(wall),
        "cpu_seconds": statistics.median(busy),
        "compile_seconds": compile_seconds,
        "gflop": unrolled_flops(function, arguments) / 1e9,
    }


def unrolled_flops(function: Callable, arguments: tuple) -> float:
    """Matrix-product FLOPs of a function, loop bodies times their number of iterations.

    The compiler's own count takes the body of a loop once.
    """
    return _jaxpr_flops(jax.make_jaxpr(function)(*arguments).jaxpr)


def _jaxpr_flops(jaxpr) -> float:
    total = 0.0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            left, out = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
            total += 2.0 * np.prod(out) * np.prod([left[axis] for axis in contracted])
        times = equation.params.get("length", 1) if equation.primitive.name == "scan" else 1
        inner = (getattr(p, "jaxpr", p) for p in equation.params.values())
        total += times * sum(_jaxpr_flops(p) for p in inner if hasattr(p, "eqns"))
    return total


def exponents(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Slopes of log cost over log views for every curve with two points or more."""
    curves: dict[tuple, list] = {}
    for row in rows:
        curves.setdefault((row["what"], row["size"], row["pass"]), []).append(row)
    fits = []
    for (what, size, kind), curve in curves.items():
        fit: dict[str, Any] = {"what": what, "size": size, "pass": kind}
        for cost in ("seconds", "cpu_seconds", "gflop"):
            for name, chosen in (("all", curve), (f"from {FIT_FROM}", [
                row for row in curve if row["views"] >= FIT_FROM
            ])):  # fmt: skip
                if len({row["views"] for row in chosen}) > 1:
                    logs = np.log([[row["views"], row[cost]] for row in chosen])
                    fit[f"{cost} {name}"] = float(np.polyfit(logs[:, 0], logs[:, 1], 1)[0])
        if len(fit) > 3:
            fits.append(fit)
    return fits


def _line(row: dict[str, Any]) -> str:
    against = ""
    if "pytorch_seconds" in row:
        against = f", PyTorch {row['pytorch_seconds']:.2f} s: {row['speedup']:.2f} times as fast"
    return (
        f"{row['what']:<18}{row['size']:<11}{row['views']:>3} views  {row['pass']:<17}"
        f"{row['seconds']:8.3f} s ({row['cpu_seconds']:.3f} s CPU), {row['gflop']:9.2f} GFLOP, "
        f"compile {row['compile_seconds']:.1f} s{against}"
    )


if __name__ == "__main__":
    sys.exit(main())
