"""`python -m tttlrm_jax.convert SRC DEST`; see `tttlrm_jax.apps.convert`."""

import sys

from tttlrm_jax.apps.convert import main

if __name__ == "__main__":
    sys.exit(main())
