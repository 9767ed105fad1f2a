"""`python -m tttlrm_jax.render SCENE`; see `tttlrm_jax.apps.render.command`.

The name `tttlrm_jax.render` stays that of the function.
"""

import sys

if __name__ == "__main__":
    from tttlrm_jax.apps.render.command import main

    sys.exit(main())
