"""Trains the run that a configuration file describes: `python train.py configs/NAME.py`.

Fields are overridden by their dotted names (`--train.num-steps 100`); `--help` lists them all.
The run resumes by itself from its newest complete checkpoint.
"""

import sys

from tttlrm_jax.apps.console import train

if __name__ == "__main__":
    sys.exit(train())
