"""`python -m tttlrm_jax.mesh SOURCE --output mesh.ply`; see `tttlrm_jax.apps.mesh`."""

import sys

from tttlrm_jax.apps.mesh import main

if __name__ == "__main__":
    sys.exit(main())
