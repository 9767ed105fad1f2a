"""The delta rule: a least-squares objective under any rule (Widrow and Hoff 1960)."""

from tttlrm_jax.ttt.fast_weights import least_squares
from tttlrm_jax.ttt.rules.base import UpdateRule
from tttlrm_jax.ttt.rules.table import register_rule


@register_rule(inner="sgd")
def delta(inner: UpdateRule) -> UpdateRule:
    """Least-squares objective: the inner rule climbs `-1/2 sum_t eta_t |f(k_t) - v_t|^2`.

    Its gradient is that of the inner product with `v - f(k)` in place of `v` (for linear `f` the
    delta rule of arXiv 2102.11174): what is already recalled is not written again.
    """
    return inner._replace(objective=least_squares)
