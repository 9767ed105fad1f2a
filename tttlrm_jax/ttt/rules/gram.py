"""Muon by Gram Newton-Schulz (Zhang, Amsel, Chen and Dao 2026, dao-lab.ai/blog)."""

from typing import Literal

from tttlrm_jax.ttt.newton_schulz import POLAR_EXPRESS, QUINTIC, gram_newton_schulz
from tttlrm_jax.ttt.rules.base import UpdateRule, require_option
from tttlrm_jax.ttt.rules.muon import orthogonalised
from tttlrm_jax.ttt.rules.table import register_rule


@register_rule
def gram(
    steps: int = 5,
    restart: int = 2,
    coefficients: Literal["quintic", "polar_express"] = "quintic",
    rate: float = 1.0,
) -> UpdateRule:
    """Muon iterated on the small Gram matrix; CHANGES THE NUMBERS of published weights.

    The same polynomial as `muon` (or `polar_express`) in exact arithmetic, in float32 with the
    Gram matrix formed anew after `restart` steps. Fewer products: 30 instead of 45 of the size
    `d^3` for matrices `d x 4d` and 5 steps.
    """
    require_option("steps", steps, 0)
    require_option("restart", restart, 0)
    chosen = POLAR_EXPRESS if coefficients == "polar_express" else QUINTIC
    return orthogonalised(lambda m: gram_newton_schulz(m, steps, chosen, restart), rate)
