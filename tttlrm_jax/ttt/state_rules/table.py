"""The table of state rules."""

from tttlrm_jax.ttt.registry import Registry

STATE_RULES = Registry("state rule")
register_state_rule = STATE_RULES.register
build_state_rule = STATE_RULES.build
