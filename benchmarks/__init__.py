"""Measurements of speed and memory; each module is a command."""

from tttlrm_jax.core.host_memory import keep_freed_memory

keep_freed_memory()  # as train.py and eval.py do
