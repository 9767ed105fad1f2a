"""Muon: the gradient's orthogonal factor, without momentum (the published tttLRM rule)."""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array

from tttlrm_jax.config import Dtype
from tttlrm_jax.ttt.fast_weights import FastWeights
from tttlrm_jax.ttt.newton_schulz import newton_schulz
from tttlrm_jax.ttt.rules.base import UpdateRule, require_option, stateless
from tttlrm_jax.ttt.rules.table import register_rule


@register_rule
def muon(steps: int = 5, dtype: Dtype = "bfloat16", rate: float = 1.0) -> UpdateRule:
    """Muon, the published rule: `delta = rate * NewtonSchulz(grad)` for each matrix.

    The length of the gradient, and with it a common factor on the rates of all tokens, does not
    matter. `steps=0` still divides by the Frobenius norm. Published: `rate=1`.
    """
    require_option("steps", steps, 0)
    return orthogonalised(lambda matrix: newton_schulz(matrix, steps, jnp.dtype(dtype)), rate)


def orthogonalised(factor: Callable[[Array], Array], rate: float) -> UpdateRule:
    """`delta = rate * factor(grad)`, for the three matrices of a layer as one batch.

    `down` is turned to the shape of the other two, which orthogonalising commutes with.
    """
    require_option("rate", rate, 0)

    def step(grad: FastWeights) -> FastWeights:
        square = grad.down.shape == grad.gate.shape
        down = grad.down if square else jnp.swapaxes(grad.down, -1, -2)
        gate, down, up = rate * factor(jnp.stack([grad.gate, down, grad.up]))
        down = down if square else jnp.swapaxes(down, -1, -2)
        return FastWeights(gate=gate, down=down, up=up)

    return stateless(step)
