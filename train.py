"""Trains the run that a configuration file describes: `python train.py configs/NAME.py`.

Fields are overridden by their dotted names (`--train.num-steps 100`); `--help` lists them all.
The run resumes by itself from its newest complete checkpoint.
"""

import sys

from tttlrm_jax.commands.train import main
from tttlrm_jax.host_memory import keep_freed_memory

if __name__ == "__main__":
    keep_freed_memory()
    sys.exit(main(sys.argv[1:]))
