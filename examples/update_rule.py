"""Writes an update rule and reconstructs with it: `python examples/update_rule.py [LENGTH]`.

A rule says how the gradient of a chunk becomes a step of the fast weights. This one takes steps of
one length (Cortes 2006) where the shipped weights were trained with Muon, so it scores worse.
"""

import sys

import jax

import tttlrm_jax as tj
from tttlrm_jax.config import RuleConfig
from tttlrm_jax.core.precision import safe_norm
from tttlrm_jax.ttt import UpdateRule, register_rule


@register_rule
def unit_ascent(length: float = 0.5) -> UpdateRule:
    """Normalised gradient: `delta = length * grad / |grad|` for each matrix."""

    def init(weights):
        return ()  # this rule remembers nothing from chunk to chunk

    def update(grad, rule_state, weights):
        def step(g):  # [batch, head, in, out]
            return length * g / (safe_norm(g, axis=(-2, -1)) + 1e-7)

        return jax.tree.map(step, grad), rule_state

    return UpdateRule(init, update)


rule = RuleConfig.of("unit_ascent", length=float(sys.argv[1]) if len(sys.argv) > 1 else 0.5)
capture = tj.open_capture()
for name, model in (("muon", tj.load()), (str(rule), tj.load(rule=rule))):
    print(f"{name}: {model.reconstruct(capture, views=4).scores()}")
