"""What an update costs: FLOPs counted by the compiler from abstract shapes, nothing is run.

`update_state` of one layer has no loop, so nothing is counted once for many. The rule's part is
the FLOPs of `rule.update` compiled alone (for the Muon family: Newton-Schulz).
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from tttlrm_jax.config import RuleConfig
from tttlrm_jax.ttt import FastWeights, TokenRates, build_rule, initial_state, update_state

F32 = jnp.dtype("float32")


@dataclasses.dataclass(frozen=True)
class Layer:
    """The published layer, and the tokens of one view of 960x536 pixels in patches of 8."""

    d_head: int = 768
    d_hid: int = 3072
    tokens_per_view: int = 120 * 67
    views: tuple[int, ...] = (1, 2, 4, 8, 16)


def compiled_flops(function, *arguments) -> float:
    """FLOPs of the compiled function; a function without arithmetic has none."""
    analysis: Any = jax.jit(function).lower(*arguments).compile().cost_analysis()
    return float(analysis.get("flops", 0.0))


def update_flops(rule: RuleConfig, layer: Layer, views: int) -> float:
    """FLOPs of one update with that many views."""
    built, _, state = _abstract(rule, layer)
    tokens = layer.tokens_per_view * views
    key, rate = _array(tokens, layer.d_head), _array(tokens)
    rates = TokenRates(rate, rate, rate, gates=tuple(rate for _ in built.gates))

    def update(state, key, value, rates):
        return update_state(state, key, value, rates, built, F32)

    return compiled_flops(update, state, key, key, rates)


def rule_flops(rule: RuleConfig, layer: Layer) -> float:
    """FLOPs of the rule alone, whatever the number of tokens."""
    built, weights, state = _abstract(rule, layer)
    return compiled_flops(built.update, weights, state.rule_state, weights)


def _abstract(rule: RuleConfig, layer: Layer):
    """The rule, and shapes of the weights and the state of one scene and head."""
    built = build_rule(rule, "float32")
    wide, tall = _array(layer.d_head, layer.d_hid), _array(layer.d_hid, layer.d_head)
    weights = FastWeights(gate=wide, down=tall, up=wide)
    return built, weights, jax.eval_shape(lambda w: initial_state(w, built), weights)


def _array(*shape: int) -> Any:
    return jax.ShapeDtypeStruct((1, 1, *shape), F32)


def measure_cost(rule: RuleConfig, layer: Layer) -> dict[str, Any]:
    """FLOPs per token and the rule's share of the update, against views per chunk.

    Compiled for the smallest and the largest chunk; the cost is affine in the tokens between.
    """
    low, high = layer.views[0], layer.views[-1]
    whole_low, whole_high = (update_flops(rule, layer, views) for views in (low, high))
    own = rule_flops(rule, layer)
    per_view = (whole_high - whole_low) / max(high - low, 1)
    whole = [whole_low + per_view * (views - low) for views in layer.views]
    return {
        "views_per_chunk": list(layer.views),
        "gflop_per_update": [w / 1e9 for w in whole],
        "mflop_per_token": [
            w / 1e6 / (layer.tokens_per_view * v) for w, v in zip(whole, layer.views, strict=True)
        ],
        "rule_gflop": own / 1e9,
        "rule_share": [own / w for w in whole],
        "rule_to_rest": [own / (w - own) for w in whole],
    }
