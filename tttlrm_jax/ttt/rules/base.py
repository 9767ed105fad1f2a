"""The type of an update rule, the inner objective it climbs and the gates it learns."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jaxtyping import Array

from tttlrm_jax.core.errors import ConfigError
from tttlrm_jax.ttt.fast_weights import FastWeights, Objective, inner_product


class Gate(NamedTuple):
    """A learned number in (0, 1) per layer, head and chunk.

    It is `sigmoid(bias)`, or with `from_tokens` `sigmoid(bias + mean token . kernel)`, where the
    mean is over the chunk's tokens that write. The kernel starts at zero.
    """

    initial: float
    from_tokens: bool


def require_option(option: str, value: Any, low: float, high: float = math.inf) -> None:
    """Raises ConfigError unless `low <= value <= high` and `value` is finite.

    Arrays, as in a sweep, pass unchecked.
    """
    if not isinstance(value, jax.Array) and not (low <= value <= high and value < math.inf):
        limits = f"in [{low}, {high}]" if high < math.inf else f"finite and {low} or more"
        raise ConfigError(f"rule.{option}={value} is not {limits}; give such a value")


def stateless(step: Callable[[FastWeights], FastWeights]) -> "UpdateRule":
    """The rule `delta = step(grad)`, whose state is empty."""
    return UpdateRule(lambda weights: (), lambda grad, rule_state, _: (step(grad), rule_state))


class UpdateRule(NamedTuple):
    """`update(grad, rule_state, weights) -> (delta, rule_state)`; the caller adds `delta`.

    `grad` points uphill on the inner objective, so rules add it. `init(weights)` makes the first
    rule state, a pytree whose arrays carry the batch axis first (or none) and keep their shapes
    and dtypes. `commit(rule_state, weights)` is called with the renormalised weights once they
    have become the persistent ones; a rule that keeps an average of weights does so there.

    A rule with `gates` owns learned parameters in every TTT layer; `observe(rule_state, values)`
    is called before each update with one `[batch, head]` array per gate.
    """

    init: Callable[[FastWeights], Any]
    update: Callable[[FastWeights, Any, FastWeights], tuple[FastWeights, Any]]
    commit: Callable[[Any, FastWeights], Any] = lambda rule_state, _: rule_state
    objective: Objective = inner_product
    gates: tuple[Gate, ...] = ()
    observe: Callable[[Any, tuple[Array, ...]], Any] = lambda rule_state, _: rule_state

    def wrapped(self, init: Callable, update: Callable) -> "UpdateRule":
        """This rule inside another, whose state holds this one's under the name `inner`.

        Objective and gates stay; `commit` and `observe` go through to the inner state.
        """

        def through(hook):
            return lambda state, value: state.replace(inner=hook(state.inner, value))

        return self._replace(
            init=init, update=update, commit=through(self.commit), observe=through(self.observe)
        )
