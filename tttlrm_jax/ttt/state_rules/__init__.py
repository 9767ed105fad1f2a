"""State rules of recurrent models: what a frame writes into the state tokens.

One file each; every file of this folder is imported, so that a rule dropped in here is listed.
docs/guides/update_rules.md says where they meet the rules of fast weights.
"""

import importlib
import pkgutil

from tttlrm_jax.ttt.state_rules.base import Proposal, StateRule, Step
from tttlrm_jax.ttt.state_rules.cut3r import cut3r
from tttlrm_jax.ttt.state_rules.ema import ema
from tttlrm_jax.ttt.state_rules.table import STATE_RULES, build_state_rule, register_state_rule
from tttlrm_jax.ttt.state_rules.ttt3r import ttt3r

__all__ = [
    "STATE_RULES", "Proposal", "StateRule", "Step", "build_state_rule", "cut3r", "ema",
    "register_state_rule", "ttt3r",
]  # fmt: skip

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
