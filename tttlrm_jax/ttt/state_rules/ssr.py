"""SSR (arXiv 2603.14765): a state is pulled to what its predecessors can express."""

import jax.numpy as jnp

from tttlrm_jax.ttt.rules.base import require_option
from tttlrm_jax.ttt.state_rules.base import StateRule, Step, written
from tttlrm_jax.ttt.state_rules.table import register_state_rule


@register_state_rule(inner="cut3r")
def ssr(inner: StateRule, window: int = 4, strength: float = 0.5, ridge: float = 0.1) -> StateRule:
    """Self-expressive regularisation: what `inner` writes, pulled to the span of recent states.

    The paper's abstract: an affinity of the states in a window has a closed form by
    self-expression, and the current update is regularised with it. Its constants were not at hand
    and its Grassmannian metric is not used; this is our reading. With the `window` last states as
    columns of `X` (whole states as vectors) and the state `y` that `inner` writes:

        w = (X'X + ridge * mean diag(X'X) I)^-1 X'y,    S = (1 - strength) y + strength * X w

    The second frame is the first with a state behind it; the initial tokens are no such state.

    Cost: `window` states of memory and a linear system of that size a frame and scene.
    """
    require_option("window", window, 1)
    require_option("strength", strength, 0, 1)
    require_option("ridge", ridge, 1e-6)

    def init(tokens):
        batch, *shape = tokens.shape
        past = jnp.zeros((batch, window, *shape), tokens.dtype)
        return inner.init(tokens), past, jnp.zeros((batch,), jnp.int32)

    def update(proposal, rule_state, tokens):
        inner_state, past, count = rule_state
        write, inner_state = inner.update(proposal, inner_state, tokens)
        follows = (count > 0)[:, None, None]
        newest = jnp.where(follows, tokens, 0)[:, None]
        past = jnp.concatenate([past[:, 1:], newest], axis=1)
        moved = written(write, proposal, tokens)
        pulled = (1 - strength) * moved + strength * expressed(past, moved, ridge)
        step = Step(jnp.where(follows, pulled, moved))
        return step, (inner_state, past, jnp.minimum(count + 1, 1))

    return StateRule(init, update)


def expressed(past, moved, ridge: float):
    """`moved` [batch, state, d_model] by ridge regression on `past` [batch, window, ...].

    States of zeros are none and get no weight.
    """
    gram = jnp.einsum("bwsd,bvsd->bwv", past, past)
    right = jnp.einsum("bwsd,bsd->bw", past, moved)
    diagonal = jnp.diagonal(gram, axis1=1, axis2=2)
    count = jnp.maximum(jnp.sum(diagonal > 0, axis=1), 1)
    size = jnp.sum(diagonal, axis=1) / count
    size = jnp.where(size > 0, size, 1)
    lifted = gram + ridge * size[:, None, None] * jnp.eye(past.shape[1], dtype=gram.dtype)[None]
    weights = jnp.linalg.solve(lifted, right[..., None])[..., 0]
    return jnp.einsum("bw,bwsd->bsd", weights, past)
