"""Reconstructs a capture and says how well: `python eval.py [--capture DIR] [--checkpoint DIR]`.

`--model ttt3r` streams through a sequence of pictures or a video without cameras instead; it has
options of its own (`--model ttt3r --help`). `--protocol configs/tttlrm/NAME.py --root DIR` measures
a data set as a paper does (options: with `--help` behind it). Without arguments eval.py improves
the toy in the package for 20 seconds, from what the weights in the package predict. `--help` lists
every option. Results go to `outputs/<scene>-<date>-<time>/`.
"""

import sys

from tttlrm_jax.apps.console import evaluate

if __name__ == "__main__":
    sys.exit(evaluate())
