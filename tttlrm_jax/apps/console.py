"""What `train.py`, `eval.py` and the installed commands run: `main` in a process of its own.

Each imports its `main` only when it is called: that takes seconds, in which signals are to count.
"""

import os
import signal
import sys

import tttlrm_jax.apps.progress  # noqa: F401 - notes the time

STANDARD_ERROR = 2
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

    Ctrl-C and SIGTERM end it in one sentence whenever they come; after its end they are ignored.
    """
    handlers = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    for each, handler in handlers.items():
        if handler is not signal.SIG_IGN:
            signal.signal(each, _end_at_once)
    from tttlrm_jax.apps.reconstruct.command import main
    from tttlrm_jax.core.host_memory import keep_freed_memory

    keep_freed_memory()
    for each, handler in handlers.items():
        signal.signal(each, handler)
    try:
        code = main()
    except KeyboardInterrupt:  # a second one
        print("interrupted", file=sys.stderr)
        code = INTERRUPTED
    for each in handlers:
        signal.signal(each, signal.SIG_IGN)
    if code == INTERRUPTED:  # what JAX still computes would bring down Python's own end
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def _end_at_once(number, frame) -> None:
    """Amid imports, where an exception may be lost and nothing is there to be cleaned up."""
    del number, frame
    os.write(STANDARD_ERROR, b"interrupted; nothing was written\n")
    os._exit(INTERRUPTED)
