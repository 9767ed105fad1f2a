"""The table of state rules."""

from tttlrm_jax.ttt.registry import Registry
from tttlrm_jax.ttt.state_rules.base import StateRule

STATE_RULES = Registry("state rule", StateRule)
register_state_rule = STATE_RULES.register
build_state_rule = STATE_RULES.build
