"""What `train.py`, `eval.py` and the installed commands run: `main` in a process of its own.

Each imports its `main` only when it is called: that takes seconds, in which signals are to count.
"""

import os
import signal
import sys

import tttlrm_jax.apps.progress  # noqa: F401 - notes the time

INTERRUPTED = 130  # `config.command_line.EXIT_INTERRUPTED`, whose import takes time


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
    """`tttlrm_jax.apps.reconstruct.command.main` over the command line, keeping freed memory.

    Ctrl-C ends it in one sentence whenever it comes, and at once.
    """
    try:
        from tttlrm_jax.apps.reconstruct.command import main
        from tttlrm_jax.core.host_memory import keep_freed_memory

        keep_freed_memory()
        code = main()
    except KeyboardInterrupt:  # amid imports, or a second one
        print("interrupted", file=sys.stderr)
        code = INTERRUPTED
    if code == INTERRUPTED:  # what JAX still computes would bring down Python's own end
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code
