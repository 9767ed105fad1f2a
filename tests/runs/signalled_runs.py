"""A process of a job that starts the tiny run once for each `PROCESS:PREPARATION` of `SIGNALLED`.

In it that process sends itself SIGTERM amid that preparation. Says which began and how each ended.
"""

import json
import os
import signal
import sys
from pathlib import Path
from unittest import mock

from tttlrm_jax.apps import console
from tttlrm_jax.training import trainer
from tttlrm_jax.training.tasks import reconstruction

ARGUMENTS = sys.argv[1:]
TINY = Path(__file__).with_name("tiny_run.py")


def started(number: int, process: str, preparation: str) -> tuple[int, bool]:
    """(exit code, whether the preparation began here) of one run with a directory of its own."""
    owner = trainer if preparation == "write_run_directory" else reconstruction
    original, begun = getattr(owner, preparation), []

    def signalled(*arguments, **named):
        begun.append(preparation)
        if os.environ["TTTLRM_PROCESS_ID"] == process:
            signal.raise_signal(signal.SIGTERM)
        return original(*arguments, **named)

    folder = Path(os.environ["WORKSPACE"]) / str(number)
    places = ("--train.directory", folder / "runs", "--data.cache-directory", folder / "cache")
    sys.argv = ["train.py", str(TINY), *ARGUMENTS, *map(str, places)]
    with mock.patch.object(owner, preparation, signalled):
        return console.train(), bool(begun)


cases = [case.split(":") for case in os.environ["SIGNALLED"].split()]
ends = [started(number, *case) for number, case in enumerate(cases)]
print("ended:", json.dumps(ends), file=sys.stderr, flush=True)
sys.exit(ends[-1][0])
