"""Share of a chip's peak that a model reaches, as a whole and by part.

Utilisation is the FLOPs of the matrix products over seconds and peak. A part is timed as a program
of its own, one layer of it, and counted for all layers; `other` is what the whole takes beyond the
parts (norms between them, residuals, the rays). Newton-Schulz is a part of the TTT layer and stands
beside it for comparison only.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from benchmarks.cost.measure import measure
from tttlrm_jax.config import ModelConfig
from tttlrm_jax.core.types import Views
from tttlrm_jax.models import build_model, merge_model, split_model
from tttlrm_jax.models.nn.block import Block
from tttlrm_jax.ttt import full_plan, newton_schulz

WITHIN = "Newton-Schulz"  # of the TTT layer


def utilisation_rows(
    config: ModelConfig, views: Views, repeats: int, peak_tflops: float | None
) -> Iterator[dict[str, Any]]:
    """A row for the whole forward pass, then one per part. Without a peak, no utilisation."""
    graph, params = split_model(build_model(config))

    def whole(params, views):
        return merge_model(graph, params)(views, plan="full")

    count = views.image.shape[1]
    costs = {"whole": _cost(measure(whole, (params, views), repeats), 1)}
    for name, (function, arguments, times) in part_functions(config, params, graph, views).items():
        costs[name] = _cost(measure(function, arguments, repeats), times)
    parts = [cost for name, cost in costs.items() if name not in ("whole", WITHIN)]
    left = {key: costs["whole"][key] - sum(p[key] for p in parts) for key in ("seconds", "tflop")}
    costs["other"] = {key: max(value, 0.0) for key, value in left.items()}
    for name, cost in costs.items():
        reached = None
        if peak_tflops is not None and cost["seconds"] > 0:
            reached = cost["tflop"] / cost["seconds"] / peak_tflops
        share = cost["seconds"] / costs["whole"]["seconds"]
        yield {"part": name, "views": count, **cost, "share": share, "utilisation": reached}


def _cost(measured: dict[str, float], times: int) -> dict[str, float]:
    return {"seconds": times * measured["seconds"], "tflop": times * measured["gflop"] / 1e3}


def part_functions(
    config: ModelConfig, params: Any, graph: Any, views: Views
) -> dict[str, tuple[Callable, tuple, int]]:
    """`name -> (function, arguments, how often the model runs it)`."""
    block_graph, block = nnx.split(Block(config, rngs=nnx.Rngs(0)))
    tokens = jax.jit(lambda p, v: merge_model(graph, p).tokenize(v))(params, views)
    count = tokens.shape[1] * tokens.shape[2]
    d_head = config.d_model // config.num_ttt_heads
    shape = (3, 1, config.num_ttt_heads, d_head, int(d_head * config.ttt_inner_factor))
    matrices = jax.random.normal(jax.random.key(0), shape)

    def branch(method: str) -> Callable:
        return lambda block, x: getattr(nnx.merge(block_graph, block), method)(x)

    def ttt(block, x):
        layer = nnx.merge(block_graph, block)
        return layer.ttt_branch(x, full_plan(count, count), layer.ttt.initial_state(1))[0]

    def orthogonalise(matrices):
        dtype = jnp.dtype(config.newton_schulz_dtype)
        return newton_schulz(matrices, dict(config.rule.options)["steps"], dtype)

    layers = config.num_layers
    return {
        "tokenizer": (lambda p, v: merge_model(graph, p).tokenize(v), (params, views), 1),
        "window attention": (branch("attention_branch"), (block, tokens), layers),
        "TTT layer": (ttt, (block, tokens), layers),
        WITHIN: (orthogonalise, (matrices,), layers),
        "MLP": (branch("mlp_branch"), (block, tokens), layers),
        "decoder": (
            lambda p, x, v: merge_model(graph, p).decoder(x, v), (params, tokens, views), 1
        ),
    }  # fmt: skip
