"""Plain gradient ascent on the inner objective (TTT layers, arXiv 2407.04620, equation 2)."""

import jax

from tttlrm_jax.ttt.rules.base import UpdateRule, require_option, stateless
from tttlrm_jax.ttt.rules.table import register_rule


@register_rule
def sgd(rate: float = 1.0) -> UpdateRule:
    """Plain gradient: `delta = rate * grad`.

    The gradient is a sum over tokens with the learned rate of each, so longer chunks step
    further; `rate` multiplies those rates. For steps of fixed length take `muon` with `steps=0`,
    which divides by the Frobenius norm.
    """
    require_option("rate", rate, 0)
    return stateless(lambda grad: jax.tree.map(lambda g: rate * g, grad))
