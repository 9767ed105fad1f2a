"""What `train.py`, `eval.py` and the installed commands run: `main` in a process of its own.

Each imports its `main` only when it is called: that takes seconds, in which signals are to count.
"""

import signal

import tttlrm_jax.apps.progress  # noqa: F401 - notes the time


def train() -> int:
    """`tttlrm_jax.apps.train.main` over the command line, keeping freed memory.

    SIGTERM ends it cleanly whenever it comes; after the run's end it is ignored.
    """
    noted: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: noted.append(number))
    from tttlrm_jax.apps.train import main  # an exception amid imports would break them
    from tttlrm_jax.core.host_memory import keep_freed_memory

    keep_freed_memory()
    try:
        return main(noted=noted)
    finally:  # Python's own end would put back the default, which kills
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def evaluate() -> int:
    """`tttlrm_jax.apps.reconstruct.command.main` over the command line, keeping freed memory."""
    from tttlrm_jax.apps.reconstruct.command import main
    from tttlrm_jax.core.host_memory import keep_freed_memory

    keep_freed_memory()
    return main()
