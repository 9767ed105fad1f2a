"""The tiny run, in which the process of `SIGNALLED` sends itself SIGTERM amid a preparation; says
that it begins."""

import os
import runpy
import signal
import sys
from pathlib import Path

from tttlrm_jax.training import trainer
from tttlrm_jax.training.tasks import reconstruction

CONFIG = runpy.run_path(str(Path(__file__).with_name("tiny_run.py")))["CONFIG"]
_process, _preparation = os.environ["SIGNALLED"].split()
_owner = trainer if _preparation == "write_run_directory" else reconstruction
_original = getattr(_owner, _preparation)


def _signalled(*arguments, **named):
    print(f"{_preparation} begun", file=sys.stderr)
    if os.environ["TTTLRM_PROCESS_ID"] == _process:
        signal.raise_signal(signal.SIGTERM)
    return _original(*arguments, **named)


setattr(_owner, _preparation, _signalled)
