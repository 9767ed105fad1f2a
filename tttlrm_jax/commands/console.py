"""What `train.py`, `eval.py` and the installed commands run: `main` in a process of its own."""

from tttlrm_jax.commands.evaluate import main as evaluate_main
from tttlrm_jax.commands.train import main as train_main
from tttlrm_jax.host_memory import keep_freed_memory


def train() -> int:
    """`tttlrm_jax.commands.train.main` over the command line, keeping freed memory."""
    keep_freed_memory()
    return train_main()


def evaluate() -> int:
    """`tttlrm_jax.commands.evaluate.main` over the command line, keeping freed memory."""
    keep_freed_memory()
    return evaluate_main()
