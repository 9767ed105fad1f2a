"""What `train.py`, `eval.py` and the installed commands run: `main` in a process of its own."""

from tttlrm_jax.host_memory import keep_freed_memory


def train() -> int:
    """`tttlrm_jax.commands.train.main` over the command line, keeping freed memory."""
    from tttlrm_jax.commands.train import main

    keep_freed_memory()
    return main()


def evaluate() -> int:
    """`tttlrm_jax.commands.evaluate.main` over the command line, keeping freed memory."""
    from tttlrm_jax.commands.evaluate import main

    keep_freed_memory()
    return main()
