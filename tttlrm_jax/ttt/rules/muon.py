"""Muon: the gradient's orthogonal factor, without momentum (the published tttLRM rule)."""

import jax.numpy as jnp

from tttlrm_jax.ttt.fast_weights import FastWeights
from tttlrm_jax.ttt.newton_schulz import newton_schulz
from tttlrm_jax.ttt.rules.base import UpdateRule


def muon(steps: int = 5, dtype="bfloat16") -> UpdateRule:
    """`delta = NewtonSchulz(grad, steps)` for each matrix.

    The three matrices of a layer are orthogonalised as one batch: `down` is turned to the shape
    of the other two, which Newton-Schulz commutes with.
    """
    dtype = jnp.dtype(dtype)

    def init(weights: FastWeights):
        del weights
        return ()

    def update(grad: FastWeights, rule_state, weights: FastWeights):
        del weights
        square = grad.down.shape == grad.gate.shape
        down = grad.down if square else jnp.swapaxes(grad.down, -1, -2)
        gate, down, up = newton_schulz(jnp.stack([grad.gate, down, grad.up]), steps, dtype)
        down = down if square else jnp.swapaxes(down, -1, -2)
        return FastWeights(gate=gate, down=down, up=up), rule_state

    return UpdateRule(init, update)
