"""The type of an update rule."""

from collections.abc import Callable
from typing import Any, NamedTuple

from tttlrm_jax.ttt.fast_weights import FastWeights


def _keep_rule_state(rule_state: Any, weights: FastWeights) -> Any:
    del weights
    return rule_state


class UpdateRule(NamedTuple):
    """`update(grad, rule_state, weights) -> (delta, rule_state)`; the caller adds `delta`.

    `grad` points uphill on the inner objective `sum_t eta_t <f(k_t), v_t>`, so rules add it.
    `init(weights)` makes the first rule state. `commit(rule_state, weights)` is called with the
    renormalised weights once they have become the persistent ones; a rule that keeps an
    average of weights does so there.
    """

    init: Callable[[FastWeights], Any]
    update: Callable[[FastWeights, Any, FastWeights], tuple[FastWeights, Any]]
    commit: Callable[[Any, FastWeights], Any] = _keep_rule_state
