"""Studies of quality; each module or folder is a command. Their results are in docs/experiments."""

from tttlrm_jax.core.host_memory import keep_freed_memory

keep_freed_memory()  # as train.py and eval.py do
