"""`python -m tttlrm_jax.view SCENE`; see `tttlrm_jax.apps.view.command`."""

import sys

if __name__ == "__main__":
    from tttlrm_jax.apps.view.command import main

    sys.exit(main())
