"""Reconstructs a capture and says how well: `python eval.py [--capture DIR] [--checkpoint DIR]`.

Without arguments it takes the sample capture and the weights that the package ships. `--help`
lists every option. Results go to `outputs/<scene>-<date>-<time>/`.
"""

import sys

from tttlrm_jax.commands.evaluate import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
