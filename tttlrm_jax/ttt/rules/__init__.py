"""Update rules: how a gradient of the inner objective changes the fast weights.

A rule is a tuple of pure functions in the manner of optax. It sees all matrices of a layer at
once and owns `rule_state`, a pytree it alone understands. Every file of this folder is imported,
so that a rule dropped in here is registered; docs/guides/update_rules.md tells how to write one.
"""

import importlib
import pkgutil

from tttlrm_jax.ttt.rules.base import Gate, UpdateRule
from tttlrm_jax.ttt.rules.delta import delta
from tttlrm_jax.ttt.rules.elastic import elastic
from tttlrm_jax.ttt.rules.forget import forget
from tttlrm_jax.ttt.rules.gram import gram
from tttlrm_jax.ttt.rules.momentum import momentum
from tttlrm_jax.ttt.rules.muon import muon
from tttlrm_jax.ttt.rules.polar_express import polar_express
from tttlrm_jax.ttt.rules.sgd import sgd
from tttlrm_jax.ttt.rules.table import (
    RULES,
    build_rule,
    override_rule,
    register_rule,
    rule_from_config,
)

__all__ = [
    "RULES", "Gate", "UpdateRule", "build_rule", "delta", "elastic", "forget", "gram", "momentum",
    "muon", "override_rule", "polar_express", "register_rule", "rule_from_config", "sgd",
]  # fmt: skip

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
