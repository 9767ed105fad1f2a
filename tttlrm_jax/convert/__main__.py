"""`python -m tttlrm_jax.convert SRC DEST`; see `tttlrm_jax.commands.convert`."""

import sys

from tttlrm_jax.commands.convert import main

if __name__ == "__main__":
    sys.exit(main())
